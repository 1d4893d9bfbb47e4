"""An event is stored once and to the byte, with its job, whatever it says."""

import asyncio
import json

from sqlalchemy import select, text

from app.models import ReceivedEvent
from app.services.news.on_file import event_in_full, list_events
from tests.services.news.conftest import Ears, lifecycle, usage

ICCID = "8999900000000000003"
_JOBS = text("SELECT args FROM procrastinate_jobs WHERE task_name = 'providers.event_received'")


async def jobs(ears: Ears) -> list[object]:
    async with ears.house.db.read() as connection:
        return list(await connection.scalars(_JOBS))


async def test_an_event_is_on_file_to_the_byte_and_has_one_job(ears: Ears) -> None:
    body = json.dumps(lifecycle(ICCID, "ENABLED", "10:00") | {"new": "field"}, indent=3).encode()
    assert await ears.receive(body)
    [event] = await ears.events()
    assert (event.kind, event.outcome, event.warnings) == ("PROFILE_LIFECYCLE", None, ())
    async with ears.house.db.read() as connection:
        assert (await event_in_full(connection, ears.house.vault, event.id)).body == body
        [sealed] = await connection.scalars(select(ReceivedEvent.body))
    assert ICCID.encode() not in sealed
    assert await jobs(ears) == [{"event_id": event.id}]


async def test_what_comes_again_in_other_clothes_is_the_same_event(ears: Ears) -> None:
    event = lifecycle(ICCID, "ENABLED", "10:00")
    assert await ears.receive(event)
    again = [
        event,
        dict(reversed(event.items())),
        event | {"eid": "89049032000000000000000000000001"},
        event | {"event_timestamp": "2026-11-20T11:00:00+01:00"},
        event | {"event_timestamp": "2026-11-20 10:00"},
        event | {"iccid": ICCID + "F"},
    ]
    assert [await ears.receive(one) for one in again] == [False] * len(again)
    assert len(await jobs(ears)) == 1


async def test_events_that_differ_in_what_counts_are_two(ears: Ears) -> None:
    event = lifecycle(ICCID, "ENABLED", "10:00")
    others = [
        event,
        lifecycle(ICCID, "DISABLED", "10:00"),
        lifecycle(ICCID, "ENABLED", "10:01"),
        lifecycle("8999900000000000011", "ENABLED", "10:00"),
        usage(ICCID, 2625, "10:00"),
        usage(ICCID, 4096, "10:00"),
        event | {"event_type": "SOMETHING_NEW"},
        event | {"event_type": "SOMETHING_NEW", "and": "more"},
        event | {"event_timestamp": None},
        event | {"event_timestamp": None, "and": "more"},
    ]
    assert [await ears.receive(one) for one in others] == [True] * len(others)
    assert len(await jobs(ears)) == len(others)


async def test_the_same_event_many_times_at_once_is_stored_once(ears: Ears) -> None:
    taken = await asyncio.gather(*(ears.receive(lifecycle(ICCID, "ENABLED", "10:00")) for _ in range(30)))
    assert taken.count(True) == 1
    assert len(await jobs(ears)) == 1


async def test_times_at_the_ends_of_time_can_be_listed_by_a_server_in_any_zone(ears: Ears) -> None:
    for time in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-20T10:00:00Z"):
        assert await ears.receive(lifecycle(ICCID, "ENABLED", time))
    for zone in ("Asia/Tokyo", "America/Lima"):
        async with ears.house.db.begin() as connection:
            await connection.execute(text(f"SET LOCAL timezone = '{zone}'"))
            listed = [event.at for event in await list_events(connection)]
        assert [at and at.year for at in listed] == [2026, None, None]


async def test_what_is_no_event_is_kept_too(ears: Ears) -> None:
    for body in (b"", b"\xff\xfe\x00", b"[]", b"null", b"{", b"[" * 100_000, b"x" * 1024 * 1024):
        assert await ears.receive(body)
        assert not await ears.receive(body)
    await ears.work()
    assert await ears.outcomes() == ["odd"] * 7
