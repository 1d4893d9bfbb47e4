"""A plan's days, and the notice before they are over."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.house import House
from app.services.esims import term
from app.services.esims.term import note_expiring, note_plan_active
from tests.services.esims.test_thresholds import an_esim_id, mails

FIRST_USE = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)


async def changed(house: House, statement: str, **values: Any) -> None:
    async with house.db.begin() as connection:
        await connection.execute(text(statement), values)


async def ends_in(house: House, left: str, *, validity: str = "30 days", state: str = "active") -> None:
    await changed(
        house,
        "UPDATE esim_profiles SET plan_state = :state, plan_expires_at = now() + CAST(:left AS text)::interval,"
        " plan_active_at = now() + CAST(:left AS text)::interval - CAST(:validity AS text)::interval",
        left=left,
        validity=validity,
        state=state,
    )


async def test_the_days_count_from_the_first_use_as_the_plan_was_sold(house: House) -> None:
    esim_id = await an_esim_id(house)
    for at in (FIRST_USE + timedelta(days=2), FIRST_USE, FIRST_USE + timedelta(hours=1)):
        async with house.db.begin() as connection:
            await note_plan_active(connection, esim_id, at)
    async with house.db.read() as connection:
        row = (await connection.execute(text("SELECT plan_active_at, plan_expires_at FROM esim_profiles"))).one()
    assert tuple(row) == (FIRST_USE, FIRST_USE + timedelta(days=30))


async def test_who_has_a_day_left_hears_of_it_once(house: House) -> None:
    await an_esim_id(house)
    await ends_in(house, "25 hours")
    assert await note_expiring(house.db) == 0
    await ends_in(house, "23 hours 59 minutes")
    assert await note_expiring(house.db) == 1
    assert await note_expiring(house.db) == 0
    assert await mails(house) == ["expires_24h"]


@pytest.mark.parametrize(
    "plan",
    [
        {"left": "-1 second"},
        {"left": "23 hours", "validity": "1 day"},
        {"left": "23 hours", "state": "terminated"},
        {"left": "23 hours", "state": "not_started"},
    ],
    ids=["over", "for one day", "ended", "not begun"],
)
async def test_others_do_not(house: House, plan: dict[str, str]) -> None:
    await an_esim_id(house)
    await ends_in(house, **plan)
    assert await note_expiring(house.db) == 0


async def test_many_processes_in_small_batches_tell_each_traveller_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(term, "_BATCH", 2)
    monkeypatch.setattr(term, "_EXPIRING", term._EXPIRING.limit(2))  # noqa: SLF001 - made at import
    for _ in range(5):
        await an_esim_id(house)
    await ends_in(house, "20 hours")
    counts = await asyncio.gather(*(note_expiring(house.db) for _ in range(3)))
    assert sum(counts) == 5
    assert await mails(house) == ["expires_24h"] * 5


async def test_the_look_for_them_reads_the_index(house: House) -> None:
    async with house.db.begin() as connection:
        options = {"literal_binds": True}
        query = term._EXPIRING.compile(dialect=connection.dialect, compile_kwargs=options)  # noqa: SLF001
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(await connection.scalars(text(f"EXPLAIN {query}")))
    assert "ix_esim_profiles_expiring" in plan
