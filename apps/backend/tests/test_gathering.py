"""Questions asked together: everybody gets their own answer, no older than their question, and nobody waits in vain."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from app.gate import Lane, lane
from app.gathering import Gathering


class Asked:
    """Who answers: takes down each asking, and may be made to wait."""

    def __init__(self) -> None:
        self.askings: list[list[int]] = []
        self.lanes: list[Lane] = []
        self.contexts: list[dict[str, object]] = []
        self.may_answer = asyncio.Event()
        self.gathering = Gathering(self.ask, queue_in=Lane.ANSWER)

    async def ask(self, questions: Sequence[int]) -> list[int | Exception]:
        self.askings.append(list(questions))
        self.lanes.append(lane.get())
        self.contexts.append(get_contextvars())
        await self.may_answer.wait()
        return [KeyError(question) if question < 0 else 10 * question for question in questions]

    async def come(self, *questions: int) -> list[asyncio.Task[int]]:
        coming = [asyncio.create_task(self.gathering.answer_to(question)) for question in questions]
        for _ in range(3):
            await asyncio.sleep(0)
        return coming


@pytest.fixture
async def asked() -> Asked:
    return Asked()


async def test_who_comes_alone_is_asked_for_at_once(asked: Asked) -> None:
    first, second = await asked.come(1), await asked.come(2)
    assert asked.askings == [[1], [2]]
    asked.may_answer.set()
    assert await asyncio.gather(*first, *second) == [10, 20]


async def test_who_comes_while_two_are_asked_for_is_asked_for_with_the_others_that_came(asked: Asked) -> None:
    await asked.come(1)
    await asked.come(2)
    await asked.come(3)
    late = await asked.come(4)
    assert asked.askings == [[1], [2]]  # what has begun is joined by nobody: its answer may be older than the question
    asked.may_answer.set()
    assert await asyncio.gather(*late) == [40]
    assert asked.askings == [[1], [2], [3, 4]]


async def test_who_come_in_the_same_moment_are_asked_for_together_and_told_their_own(asked: Asked) -> None:
    asked.may_answer.set()
    coming = await asked.come(3, -1, 1)
    assert await asyncio.gather(*coming, return_exceptions=True) == [30, coming[1].exception(), 10]
    assert isinstance(coming[1].exception(), KeyError)
    assert asked.askings == [[3, -1, 1]]


async def test_a_crowd_is_asked_for_in_parts(asked: Asked) -> None:
    asked.may_answer.set()
    assert await asyncio.gather(*await asked.come(*range(200))) == [10 * question for question in range(200)]
    assert max(map(len, asked.askings)) == 64


async def test_one_asking_that_hangs_holds_up_those_in_it_only() -> None:
    hangs = asyncio.Event()

    async def ask(questions: Sequence[str]) -> Sequence[str]:
        if "hangs" in questions:
            await hangs.wait()
        return questions

    gathering = Gathering(ask, queue_in=Lane.LOOK)
    stuck = asyncio.create_task(gathering.answer_to("hangs"))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        assert [await gathering.answer_to(str(number)) for number in range(5)] == ["0", "1", "2", "3", "4"]
    hangs.set()
    assert await stuck == "hangs"


async def test_an_error_of_the_asking_is_told_to_all_in_it_and_the_next_is_asked_for() -> None:
    away = True

    async def ask(questions: Sequence[int]) -> Sequence[int]:
        if away:
            raise ConnectionError
        return questions

    gathering = Gathering(ask, queue_in=Lane.LOOK)
    told = await asyncio.gather(*map(gathering.answer_to, range(3)), return_exceptions=True)
    assert [type(one) for one in told] == [ConnectionError] * 3
    away = False
    assert await gathering.answer_to(7) == 7


async def test_whoever_leaves_takes_nobody_along_and_is_not_asked_for_later(asked: Asked) -> None:
    leaving, staying = await asked.come(1, 2)
    await asked.come(3)
    gone, waiting = await asked.come(4, 5)
    leaving.cancel()
    gone.cancel()
    await asyncio.sleep(0)
    asked.may_answer.set()
    assert list(await asyncio.gather(staying, waiting)) == [20, 50]
    assert asked.askings == [[1, 2], [3], [5]]


async def test_nobody_is_asked_for_when_all_have_left(asked: Asked) -> None:
    (gone,) = [asyncio.create_task(asked.gathering.answer_to(1))]
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0.01)
    assert asked.askings == []


async def test_it_works_in_its_own_lane_and_under_nobodys_name(asked: Asked) -> None:
    asked.may_answer.set()
    lane.set(Lane.LOOK)
    with bound_contextvars(request_id="req_of_the_first"):
        await asked.gathering.answer_to(1)
    assert (asked.lanes, asked.contexts) == ([Lane.ANSWER], [{}])


async def test_nobody_waits_in_vain_whenever_they_come() -> None:
    """The moment in which an asking ends is the one to come in."""
    draw = random.Random(1)  # noqa: S311 - no secret

    async def ask(questions: Sequence[int]) -> Sequence[int]:
        for _ in range(draw.randrange(4)):
            await asyncio.sleep(0)
        return questions

    gathering = Gathering(ask, queue_in=Lane.LOOK)

    async def come_again_and_again(number: int) -> None:
        for _ in range(500):
            for _ in range(draw.randrange(6)):
                await asyncio.sleep(0)
            assert await gathering.answer_to(number) == number

    async with asyncio.timeout(30):
        await asyncio.gather(*map(come_again_and_again, range(4)))
