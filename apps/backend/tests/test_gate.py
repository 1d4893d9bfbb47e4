"""The queue for a scarce thing: two lanes, each first come, first served."""

import asyncio
from functools import partial

import pytest
from fastapi import FastAPI
from starlette.types import Message

from app import gate as gate_module
from app.api.shell import Shell
from app.gate import Gate, Place, in_a_hurry

H, P = "in a hurry", "patient"
STUCK_AFTER_S = 60


async def queue(gate: Gate, *comers: str) -> list[asyncio.Task[Place]]:
    """One after the other they come."""

    async def come(kind: str) -> Place:
        in_a_hurry.set(kind is H)
        return await gate.enter(stuck_after_s=STUCK_AFTER_S)

    coming = []
    for kind in comers:
        coming.append(asyncio.create_task(come(kind)))
        await asyncio.sleep(0)
    return coming


async def order_of_service(*comers: str) -> list[tuple[int, str]]:
    """Who goes through a gate with one place, one after the other, when all have come while it was taken."""
    gate = Gate(1)
    served: list[tuple[int, str]] = []

    def is_in(task: asyncio.Task[Place], number: int, kind: str) -> None:
        served.append((number, kind))
        task.result().leave()

    taken = await gate.enter(stuck_after_s=STUCK_AFTER_S)
    coming = await queue(gate, *comers)
    for number, (task, kind) in enumerate(zip(coming, comers, strict=True)):
        task.add_done_callback(partial(is_in, number=number, kind=kind))
    taken.leave()
    await asyncio.gather(*coming)
    await asyncio.sleep(0)
    return served


async def number_inside(coming: list[asyncio.Task[Place]]) -> int:
    await asyncio.sleep(0)
    return sum(task.done() for task in coming)


async def test_who_is_in_a_hurry_goes_before_all_who_are_not() -> None:
    assert await order_of_service(P, P, H, P, H) == [(2, H), (4, H), (0, P), (1, P), (3, P)]


async def test_who_is_in_a_hurry_keeps_nobody_out() -> None:
    served = [kind for _, kind in await order_of_service(P, P, *[H] * 12)]
    assert served == [H, H, H, H, P, H, H, H, H, P, H, H, H, H]


async def test_the_patient_take_all_places_while_nobody_is_in_a_hurry() -> None:
    assert await number_inside(await queue(Gate(10), *[P] * 12)) == 10


async def test_the_patient_take_few_places_while_somebody_is_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_HURRY_S", 3600)
    gate = Gate(10)
    [hurried] = await queue(gate, H)
    patient = await queue(gate, *[P] * 12)
    assert await number_inside(patient) == 5
    hurried.result().leave()
    assert await number_inside(patient) == 5
    patient[0].result().leave()
    assert await number_inside(patient) == 6


async def test_the_hurry_is_over_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_HURRY_S", 0)
    gate = Gate(10)
    await queue(gate, H)
    assert await number_inside(await queue(gate, *[P] * 12)) == 9


@pytest.mark.parametrize("kind", [H, P])
async def test_who_leaves_the_queue_takes_no_place(kind: str) -> None:
    gate = Gate(1)
    taken = await gate.enter(stuck_after_s=STUCK_AFTER_S)
    leaving, staying = await queue(gate, kind, kind)
    leaving.cancel()
    taken.leave()
    (await staying).leave()
    (await gate.enter(stuck_after_s=STUCK_AFTER_S)).leave()


@pytest.mark.parametrize("kind", [H, P])
async def test_who_leaves_in_the_moment_in_which_a_place_is_theirs_passes_it_on(kind: str) -> None:
    gate = Gate(1)
    taken = await gate.enter(stuck_after_s=STUCK_AFTER_S)
    leaving, staying = await queue(gate, kind, kind)
    taken.leave()
    leaving.cancel()
    await staying
    assert leaving.cancelled()


async def test_a_queue_that_stands_still_is_given_up_and_one_that_is_long_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    gate = Gate(1)
    taken = await gate.enter(stuck_after_s=STUCK_AFTER_S)
    first, second = await queue(gate, P, P)
    now += STUCK_AFTER_S - 10
    taken.leave()
    assert await number_inside([first, second]) == 1
    now += STUCK_AFTER_S - 10
    for _ in range(3):  # the timer, what it does, and what comes of that
        await asyncio.sleep(0)
    assert not second.done()
    now += 11
    for _ in range(3):
        await asyncio.sleep(0)
    assert isinstance(second.exception(), TimeoutError)
    first.result().leave()
    (await gate.enter(stuck_after_s=STUCK_AFTER_S)).leave()


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
