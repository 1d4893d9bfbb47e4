"""What staff sees of the events on file."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.errors import NotFound
from app.services.news.on_file import count_parked, event_in_full, hearsay_of, list_events
from tests.services.news.conftest import Ears, lifecycle

STRANGER = "8999912345678901237"


async def test_the_list_is_the_newest_first_and_can_be_narrowed(ears: Ears) -> None:
    esim_id, iccid = await ears.sold()
    await ears.hear(lifecycle(iccid, "ENABLED", "10:00"), lifecycle(STRANGER, "ENABLED", "10:00"), b"{")
    wishes: list[dict[str, Any]] = [{}, {"outcome": "parked"}, {"outcome": "odd"}, {"esim_id": esim_id}, {"limit": 2}]
    async with ears.house.db.read() as connection:
        found = [[event.id for event in await list_events(connection, **wish)] for wish in wishes]
    assert found == [[3, 2, 1], [2], [3], [1], [3, 2]]


async def test_what_is_parked_counts_after_an_hour(ears: Ears) -> None:
    await ears.hear(lifecycle(STRANGER, "ENABLED", "10:00"), b"{")
    older = text("UPDATE provider_events SET received_at = received_at - CAST(:by AS interval)")
    counted = []
    for minutes in (0, 50, 20):
        async with ears.house.db.begin() as connection:
            await connection.execute(older, {"by": timedelta(minutes=minutes)})
            counted.append(await count_parked(connection))
    assert counted == [0, 0, 1]


async def test_when_a_provider_was_heard_of_last_is_known(ears: Ears) -> None:
    await ears.hear(b"{")
    async with ears.house.db.read() as connection:
        assert (await hearsay_of(connection, "CONNECTED_YOU")).last_at is not None
        assert (await hearsay_of(connection, "LOCAL")).last_at is None


async def test_an_event_that_is_not_there_is_not_found(ears: Ears) -> None:
    async with ears.house.db.read() as connection:
        with pytest.raises(NotFound):
            await event_in_full(connection, ears.house.vault, 99)
