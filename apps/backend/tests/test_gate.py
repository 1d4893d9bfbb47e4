"""The queue for a scarce thing: three lanes, each first come, first served."""

import asyncio
from functools import partial

import pytest
from fastapi import FastAPI
from starlette.types import Message

from app import gate as gate_module
from app.api.shell import Shell
from app.gate import Gate, Lane, Place, lane

LOOK, ANSWER, REST = Lane.LOOK, Lane.ANSWER, Lane.REST
STUCK_AFTER_S = 60


async def queue(gate: Gate, *comers: Lane) -> list[asyncio.Task[Place]]:
    """One after the other they come."""

    async def come(comer: Lane) -> Place:
        lane.set(comer)
        return await gate.enter(stuck_after_s=STUCK_AFTER_S)

    coming = []
    for comer in comers:
        coming.append(asyncio.create_task(come(comer)))
        await asyncio.sleep(0)
    return coming


async def order_of_service(*comers: Lane) -> list[tuple[int, Lane]]:
    """Who goes through a gate with one place, one after the other, when all have come while it was taken."""
    gate = Gate(1)
    served: list[tuple[int, Lane]] = []

    def is_in(task: asyncio.Task[Place], number: int, comer: Lane) -> None:
        served.append((number, comer))
        task.result().leave()

    taken = await gate.enter(stuck_after_s=STUCK_AFTER_S)
    coming = await queue(gate, *comers)
    for number, (task, comer) in enumerate(zip(coming, comers, strict=True)):
        task.add_done_callback(partial(is_in, number=number, comer=comer))
    taken.leave()
    await asyncio.gather(*coming)
    await asyncio.sleep(0)
    return served


async def number_inside(coming: list[asyncio.Task[Place]]) -> int:
    await asyncio.sleep(0)
    return sum(task.done() for task in coming)


async def test_who_has_a_look_goes_first_and_then_answers() -> None:
    served = await order_of_service(REST, REST, LOOK, ANSWER, REST, LOOK, ANSWER)
    assert served == [(2, LOOK), (5, LOOK), (3, ANSWER), (6, ANSWER), (0, REST), (1, REST), (4, REST)]


async def test_who_has_a_look_keeps_nobody_out() -> None:
    served = [comer for _, comer in await order_of_service(REST, REST, *[LOOK] * 12)]
    assert served == [LOOK] * 4 + [REST] + [LOOK] * 4 + [REST] + [LOOK] * 4


async def test_others_take_all_places_while_nobody_has_a_look() -> None:
    assert await number_inside(await queue(Gate(10), *[REST] * 12)) == 10


async def test_others_take_half_of_the_places_while_somebody_has_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_HURRY_S", 3600)
    gate = Gate(10)
    [look] = await queue(gate, LOOK)
    others = await queue(gate, *[ANSWER, REST] * 6)
    assert await number_inside(others) == 5
    look.result().leave()
    assert await number_inside(others) == 5
    others[0].result().leave()
    assert await number_inside(others) == 6


async def test_the_hurry_is_over_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_HURRY_S", 0)
    gate = Gate(10)
    await queue(gate, LOOK)
    assert await number_inside(await queue(gate, *[REST] * 12)) == 9


@pytest.mark.parametrize("comer", list(Lane))
async def test_who_leaves_the_queue_takes_no_place(comer: Lane) -> None:
    gate = Gate(1)
    taken = await gate.enter(stuck_after_s=STUCK_AFTER_S)
    leaving, staying = await queue(gate, comer, comer)
    leaving.cancel()
    taken.leave()
    (await staying).leave()
    (await gate.enter(stuck_after_s=STUCK_AFTER_S)).leave()


@pytest.mark.parametrize("comer", list(Lane))
async def test_who_leaves_in_the_moment_in_which_a_place_is_theirs_passes_it_on(comer: Lane) -> None:
    gate = Gate(1)
    taken = await gate.enter(stuck_after_s=STUCK_AFTER_S)
    leaving, staying = await queue(gate, comer, comer)
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
    first, second = await queue(gate, REST, REST)
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


@pytest.mark.parametrize(("method", "queues"), [("GET", LOOK), ("HEAD", LOOK), ("POST", REST)])
async def test_requests_that_only_read_have_a_look(method: str, queues: Lane) -> None:
    seen = []
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST"])
    async def look() -> None:
        seen.append(lane.get())

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None:
        pass

    scope = {"type": "http", "method": method, "path": "/", "headers": [], "query_string": b""}
    await asyncio.create_task(Shell(app, is_https=False)(scope, receive, send))
    assert seen == [queues]
