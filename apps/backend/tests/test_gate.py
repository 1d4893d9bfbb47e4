"""The queue for a scarce thing: two lanes, each first come, first served."""

import asyncio

import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.api.shell import Shell
from app.gate import Gate, in_a_hurry

H, P = "in a hurry", "patient"


async def order_of_service(*comers: str) -> list[tuple[int, str]]:
    """Who goes through a gate with one place, one after the other, when all have come while it was taken."""
    gate = Gate(1)
    served: list[tuple[int, str]] = []

    async def come(number: int, kind: str) -> None:
        in_a_hurry.set(kind is H)
        await gate.acquire()
        served.append((number, kind))
        gate.release()

    await gate.acquire()
    waiting = []
    for number, kind in enumerate(comers):
        waiting.append(asyncio.create_task(come(number, kind)))
        await asyncio.sleep(0)
    gate.release()
    await asyncio.gather(*waiting)
    return served


async def test_who_is_in_a_hurry_goes_before_all_who_are_not() -> None:
    assert await order_of_service(P, P, H, P, H) == [(2, H), (4, H), (0, P), (1, P), (3, P)]


async def test_who_is_in_a_hurry_keeps_nobody_out() -> None:
    served = [kind for _, kind in await order_of_service(P, P, *[H] * 12)]
    assert served == [H, H, H, H, P, H, H, H, H, P, H, H, H, H]


@pytest.mark.parametrize("kind", [H, P])
async def test_who_leaves_the_queue_takes_no_place(kind: str) -> None:
    gate = Gate(1)
    in_a_hurry.set(kind is H)
    await gate.acquire()
    leaving = asyncio.create_task(gate.acquire())
    staying = asyncio.create_task(gate.acquire())
    await asyncio.sleep(0)
    leaving.cancel()
    gate.release()
    await staying
    gate.release()
    await gate.acquire()


async def test_who_leaves_in_the_moment_in_which_a_place_is_theirs_passes_it_on() -> None:
    gate = Gate(1)
    await gate.acquire()
    leaving = asyncio.create_task(gate.acquire())
    staying = asyncio.create_task(gate.acquire())
    await asyncio.sleep(0)
    gate.release()
    leaving.cancel()
    await staying
    assert leaving.cancelled()


@pytest.mark.parametrize(("method", "is_so"), [("GET", True), ("HEAD", True), ("POST", False)])
async def test_requests_that_only_read_are_in_a_hurry(method: str, is_so: bool) -> None:
    seen = []
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST"])
    async def look() -> None:
        seen.append(in_a_hurry.get())

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None:
        pass

    scope = {"type": "http", "method": method, "path": "/", "headers": [], "query_string": b""}
    await asyncio.create_task(Shell(app, is_https=False)(scope, receive, send))
    assert seen == [is_so]
