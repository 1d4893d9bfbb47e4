"""Each threshold of an eSIM is noted once, and mailed of once, whoever noticed it."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from app.house import House
from app.services.esims.thresholds import EXPIRES_SOON, crossed_by_percentage, crossed_by_usage, note_thresholds
from tests.builders import an_order


@pytest.mark.parametrize(
    ("used_mb", "total_mb", "crossed"),
    [
        (0, 100, ()),
        (49.99, 100, ()),
        (50, 100, ("data_50",)),
        (51.27, 100, ("data_50",)),
        (79.9, 100, ("data_50",)),
        (80, 100, ("data_50", "data_80")),
        (4096, 5120, ("data_50", "data_80")),
        (99.99, 100, ("data_50", "data_80")),
        (100, 100, ("data_50", "data_80", "data_100")),
        (130, 100, ("data_50", "data_80", "data_100")),
        (None, 100, ()),
        (80, None, ()),
        (None, None, ()),
        (80, 0, ()),
    ],
)
def test_a_threshold_is_crossed_from_its_number_on(
    used_mb: float | None, total_mb: float | None, crossed: tuple[str, ...]
) -> None:
    assert crossed_by_usage(used_mb, total_mb) == crossed


def test_a_percentage_says_the_same() -> None:
    assert crossed_by_percentage(51.27) == ("data_50",)
    assert crossed_by_percentage(80) == ("data_50", "data_80")
    assert crossed_by_percentage(None) == ()


async def an_esim_id(house: House) -> int:
    order_id = await an_order(house.db)
    async with house.db.read() as connection:
        found = await connection.scalar(text("SELECT id FROM esim_profiles WHERE order_id = :id"), {"id": order_id})
    assert isinstance(found, int)
    return found


async def noted(house: House, esim_id: int, *crossed: str) -> tuple[str, ...]:
    async with house.db.begin() as connection:
        return await note_thresholds(connection, esim_id, crossed)


async def mails(house: House) -> list[str]:
    """The kinds of those that have a job."""
    async with house.db.read() as connection:
        rows = await connection.scalars(
            text(
                "SELECT kind FROM outgoing_mails mail JOIN procrastinate_jobs job"
                " ON job.task_name = 'mails.written' AND (job.args ->> 'mail_id')::bigint = mail.id ORDER BY mail.id"
            )
        )
        return list(rows)


async def test_what_is_new_is_told_once_and_its_highest_is_mailed_of(house: House) -> None:
    esim_id = await an_esim_id(house)
    assert await noted(house, esim_id) == ()
    assert await noted(house, esim_id, "data_50") == ("data_50",)
    assert await mails(house) == []
    assert await noted(house, esim_id, "data_50", "data_80") == ("data_80",)
    assert await noted(house, esim_id, "data_50", "data_80") == ()
    assert await mails(house) == ["data_80"]
    assert await noted(house, esim_id, "data_50", "data_80", "data_100") == ("data_100",)
    assert await mails(house) == ["data_80", "data_100"]


async def test_of_several_at_once_one_is_mailed_of_and_the_end_of_the_plan_besides(house: House) -> None:
    esim_id = await an_esim_id(house)
    everything = ("data_50", "data_80", "data_100", EXPIRES_SOON)
    assert await noted(house, esim_id, *reversed(everything)) == everything
    assert await mails(house) == ["data_100", EXPIRES_SOON]


async def test_who_notices_at_the_same_time_is_told_of_it_once(house: House) -> None:
    esim_id = await an_esim_id(house)
    told: list[Any] = await asyncio.gather(*(noted(house, esim_id, "data_50", "data_80") for _ in range(6)))
    assert sorted(told) == [()] * 5 + [("data_50", "data_80")]
    assert await mails(house) == ["data_80"]


async def test_an_act_that_is_rolled_back_has_noted_nothing(house: House) -> None:
    esim_id = await an_esim_id(house)

    async def note_and_fail() -> None:
        async with house.db.begin() as connection:
            await note_thresholds(connection, esim_id, ("data_50", "data_80"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await note_and_fail()
    assert await mails(house) == []
    assert await noted(house, esim_id, "data_50", "data_80") == ("data_50", "data_80")
