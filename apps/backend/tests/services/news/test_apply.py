"""News moves an eSIM forward by the provider's time, once; what can't be placed or believed is kept and moves nothing."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.house import House
from app.services.esims.answer import record_answer
from app.services.esims.resolve import resolve_issued
from app.services.news.apply import apply_event, catch_up, catch_up_all
from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid
from tests.builders import an_order
from tests.processes.programs import until
from tests.services.esims.conftest import provider as provider
from tests.services.esims.conftest import supplier as supplier
from tests.services.esims.test_settling import an_intent, an_unknown, the_answer
from tests.services.news.conftest import Ears, lifecycle, product, usage

_WAITS_FOR_A_LOCK = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
STRANGER = "8999912345678901237"


async def test_a_life_moves_each_axis_and_is_told_once(ears: Ears) -> None:
    esim_id, iccid = await ears.sold()
    await ears.hear(
        lifecycle(iccid, "DOWNLOADED", "10:00"),
        lifecycle(iccid, "ENABLED", "10:20"),
        product(iccid, "ACTIVATED", "10:30"),
        usage(iccid, 4096, "10:40", percentage=80.02),
        usage(iccid, 4096, "10:40", percentage=80.02),
    )
    row = await ears.profile(esim_id)
    assert (row.profile_state, row.plan_state, row.data_used_mb, row.data_total_mb) == ("enabled", "active", 4096, 5120)
    assert row.usage_at == datetime(2026, 11, 20, 10, 40, tzinfo=UTC)
    assert await ears.told(esim_id) == [
        ("profile_state_changed", "downloaded"),
        ("profile_state_changed", "enabled"),
        ("plan_state_changed", "active"),
        ("usage_told", 4096),
    ]
    assert await ears.outcomes() == ["applied"] * 4
    assert {event.esim_id for event in await ears.events()} == {esim_id}


async def test_older_news_is_stored_and_not_told(ears: Ears) -> None:
    esim_id, iccid = await ears.sold()
    await ears.hear(
        lifecycle(iccid, "ENABLED", "10:20"), product(iccid, "TERMINATED", "10:50"), usage(iccid, 4096, "10:40")
    )
    before, told = await ears.profile(esim_id), await ears.told(esim_id)
    await ears.hear(
        lifecycle(iccid, "DELETED", "10:19"), product(iccid, "ACTIVATED", "10:30"), usage(iccid, 5000, "10:39")
    )
    assert await ears.profile(esim_id) == before
    assert await ears.told(esim_id) == told
    assert await ears.outcomes() == ["applied"] * 3 + ["older"] * 3


async def test_a_state_that_is_told_again_later_keeps_out_what_is_older_and_is_not_told(ears: Ears) -> None:
    esim_id, iccid = await ears.sold()
    await ears.hear(
        lifecycle(iccid, "ENABLED", "10:00"),
        lifecycle(iccid, "ENABLED", "12:00"),
        lifecycle(iccid, "DISABLED", "11:00"),
    )
    assert (await ears.profile(esim_id)).profile_state == "enabled"
    assert await ears.told(esim_id) == [("profile_state_changed", "enabled")]


async def test_a_job_that_runs_again_and_two_at_once_tell_once(ears: Ears) -> None:
    esim_id, iccid = await ears.sold()
    await ears.receive(lifecycle(iccid, "ENABLED", "10:00"))
    [event] = await ears.events()
    await asyncio.gather(*(apply_event(ears.house, event.id) for _ in range(5)))
    await apply_event(ears.house, event.id)
    assert await ears.told(esim_id) == [("profile_state_changed", "enabled")]


async def test_who_comes_second_goes_by_what_the_first_has_written(ears: Ears) -> None:
    esim_id, iccid = await ears.sold()
    await ears.receive(lifecycle(iccid, "DOWNLOADED", "10:00"))
    async with ears.house.db.begin() as connection:
        await connection.execute(
            text("UPDATE esim_profiles SET profile_state = 'enabled', profile_state_at = '2026-11-20T11:00Z'")
        )
        second = asyncio.create_task(ears.work())

        async def waits() -> bool:
            async with ears.house.db.read() as another:
                return bool(await another.scalar(_WAITS_FOR_A_LOCK))

        await until(waits)
    await second
    assert (await ears.states(esim_id))[0] == "enabled"
    assert await ears.outcomes() == ["older"]


async def test_what_waits_is_applied_by_the_providers_time(ears: Ears) -> None:
    """However they came, one look at them tells the life in its order."""
    esim_id, iccid = await ears.sold()
    for event in (lifecycle(iccid, "ENABLED", "10:20"), lifecycle(iccid, "DOWNLOADED", "10:00")):
        await ears.receive(event)
    await ears.work()
    assert await ears.told(esim_id) == [
        ("profile_state_changed", "downloaded"),
        ("profile_state_changed", "enabled"),
    ]


# --- before its eSIM


async def test_an_event_that_comes_before_the_purchases_answer_is_parked_and_taken_up(
    ears: Ears, house: House, provider: Any
) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    delivered = await the_answer(provider, intent)
    assert delivered.iccid is not None
    await ears.hear(lifecycle(delivered.iccid.text, "DOWNLOADED", "10:00"))
    assert await ears.outcomes() == ["parked"]
    esim, _ = await record_answer(house.db, house.vault, intent, provider.name, delivered)
    await catch_up(house, esim.id)
    assert await ears.outcomes() == ["applied"]
    assert (await ears.states(esim.id))[0] == "downloaded"
    assert await ears.told(esim.id) == [("profile_state_changed", "downloaded")]


async def test_an_event_whose_job_runs_after_the_delivery_finds_its_esim(
    ears: Ears, house: House, provider: Any
) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    delivered = await the_answer(provider, intent)
    assert delivered.iccid is not None
    await ears.receive(lifecycle(delivered.iccid.text, "DOWNLOADED", "10:00"))
    esim, _ = await record_answer(house.db, house.vault, intent, provider.name, delivered)
    await ears.work()
    await catch_up(house, esim.id)
    assert await ears.told(esim.id) == [("profile_state_changed", "downloaded")]


async def test_what_is_not_looked_at_yet_is_taken_up_with_the_delivery_and_its_job_finds_nothing_left(
    ears: Ears,
) -> None:
    esim_id, iccid = await ears.sold()
    await ears.receive(lifecycle(iccid, "ENABLED", "10:00"))
    await asyncio.gather(catch_up(ears.house, esim_id), ears.work(), catch_up(ears.house, esim_id))
    assert await ears.told(esim_id) == [("profile_state_changed", "enabled")]


async def test_a_person_who_types_the_iccid_in_matches_what_was_parked(ears: Ears, house: House, provider: Any) -> None:
    _, esim_id = await an_unknown(house, provider)
    await ears.hear(product(STRANGER, "ACTIVATED", "10:00"))
    code = ActivationCode.read("LPA:1$smdp.example.com$TYPED-IN")
    await resolve_issued(
        house.db, house.vault, esim_id, code=code, iccid=Iccid.read(STRANGER), reason="their ticket", actor="cli:test"
    )
    await catch_up(house, esim_id)
    assert (await ears.states(esim_id))[1] == "active"


async def test_the_sweep_finds_what_nobody_has_looked_for(ears: Ears) -> None:
    esim_id, iccid = await ears.sold()
    await ears.hear(lifecycle(STRANGER, "ENABLED", "10:00"), lifecycle(iccid, "ENABLED", "10:00"))
    async with ears.house.db.begin() as connection:
        await connection.execute(
            text("UPDATE provider_events SET outcome = 'parked', profile_id = NULL WHERE profile_id IS NOT NULL")
        )
        await connection.execute(text("UPDATE esim_profiles SET profile_state = NULL, profile_state_at = NULL"))
    assert await catch_up_all(ears.house) == 1
    assert (await ears.states(esim_id))[0] == "enabled"
    assert await ears.outcomes() == ["parked", "applied"]
    assert await catch_up_all(ears.house) == 0


async def test_an_esim_of_another_provider_is_not_its_to_tell_of(ears: Ears) -> None:
    esim_id, iccid = await ears.sold()
    async with ears.house.db.begin() as connection:
        await connection.execute(text("UPDATE esim_profiles SET provider = 'LOCAL'"))
    await ears.hear(lifecycle(iccid, "ENABLED", "10:00"))
    await catch_up(ears.house, esim_id)
    assert (await ears.states(esim_id))[0] is None
    assert await ears.outcomes() == ["parked"]


# --- what can't be understood or believed

AHEAD = (datetime.now(UTC) + timedelta(days=2)).isoformat()
SOON = (datetime.now(UTC) + timedelta(hours=14)).isoformat()

ODD: dict[str, tuple[Any, list[str]]] = {
    "another type": (lifecycle("{iccid}", "ENABLED", "10:00") | {"event_type": "SIM_SWAP"}, ["event-type-unknown"]),
    "no type": (lifecycle("{iccid}", "ENABLED", "10:00") | {"event_type": None}, ["event-type-missing"]),
    "a type of words": (lifecycle("{iccid}", "ENABLED", "10:00") | {"event_type": "a b"}, ["event-type-unreadable"]),
    "a list as type": (lifecycle("{iccid}", "ENABLED", "10:00") | {"event_type": ["X"]}, ["event-type-unreadable"]),
    "another status": (lifecycle("{iccid}", "MELTED", "10:00"), ["status-unknown"]),
    "no status": (lifecycle("{iccid}", None, "10:00"), ["status-missing"]),
    "a number as status": (product("{iccid}", 1, "10:00"), ["status-unreadable"]),
    "no time": (lifecycle("{iccid}", "ENABLED", None), ["time-missing"]),
    "a number as time": (lifecycle("{iccid}", "ENABLED", 1_790_000_000), ["time-unreadable"]),
    "no day": (lifecycle("{iccid}", "ENABLED", "2026-02-30T10:00:00Z"), ["time-unreadable"]),
    "the first day there is": (lifecycle("{iccid}", "ENABLED", "0001-01-01T00:00:00+14:00"), ["time-unreadable"]),
    "the year 1": (lifecycle("{iccid}", "ENABLED", "0001-01-01T00:00:00Z"), ["time-too-old"]),
    "1970": (lifecycle("{iccid}", "ENABLED", "1970-01-01T00:00:00Z"), ["time-too-old"]),
    "the day after tomorrow": (lifecycle("{iccid}", "ENABLED", AHEAD), ["time-in-future"]),
    "the year 9999": (lifecycle("{iccid}", "ENABLED", "9999-12-31T23:59:59Z"), ["time-in-future"]),
    "no ICCID": (lifecycle(None, "ENABLED", "10:00"), ["iccid-missing"]),
    "an ICCID that is none": (lifecycle("n/a", "ENABLED", "10:00"), ["iccid-not-digits"]),
    "less than nothing used": (usage("{iccid}", -1, "10:00"), ["usage-unreadable"]),
    "nothing to be used": (usage("{iccid}", 1, "10:00", total=0), ["usage-unreadable"]),
    "2^63 used": (usage("{iccid}", 2**63, "10:00"), ["usage-unreadable"]),
    "text used": (usage("{iccid}", "2625", "10:00"), ["usage-unreadable"]),
    "true used": (usage("{iccid}", True, "10:00"), ["usage-unreadable"]),
    "not a number used": (usage("{iccid}", float("nan"), "10:00"), ["usage-unreadable"]),
    "without end used": (usage("{iccid}", float("inf"), "10:00"), ["usage-unreadable"]),
    "no total": (usage("{iccid}", 1, "10:00", total=None), ["usage-unreadable"]),
}


@pytest.mark.parametrize("case", ODD)
async def test_what_is_odd_is_kept_and_flagged_and_moves_nothing(ears: Ears, case: str) -> None:
    event, warnings = ODD[case]
    esim_id, iccid = await ears.sold()
    event = {name: iccid if value == "{iccid}" else value for name, value in event.items()}
    before = await ears.profile(esim_id)
    await ears.hear(event)
    [kept] = await ears.events()
    assert (kept.outcome, list(kept.warnings)) == ("odd", warnings)
    assert await ears.profile(esim_id) == before
    assert await ears.told(esim_id) == []
    await ears.hear(lifecycle(iccid, "DOWNLOADED", "09:00"), usage(iccid, 1, "09:00"))
    assert await ears.states(esim_id) == ("downloaded", "not_started", 1)


async def test_what_is_odd_about_a_strangers_event_is_flagged_at_once(ears: Ears) -> None:
    await ears.hear(lifecycle(STRANGER, "MELTED", "10:00"), lifecycle(STRANGER, "ENABLED", AHEAD))
    assert await ears.outcomes() == ["odd", "odd"]


async def test_a_clock_that_is_a_zone_ahead_is_believed(ears: Ears) -> None:
    esim_id, iccid = await ears.sold()
    await ears.hear(lifecycle(iccid, "ENABLED", SOON))
    assert (await ears.states(esim_id))[0] == "enabled"


async def test_what_is_odd_but_clear_is_applied_and_flagged(ears: Ears) -> None:
    esim_id, iccid = await ears.sold()
    await ears.hear(usage(int(iccid), 2560, "10:00", percentage=-5))
    [event] = await ears.events()
    assert (event.outcome, event.warnings) == ("applied", ("iccid-reformatted", "percentage-unreadable"))
    assert (await ears.states(esim_id))[2] == 2560
    async with ears.house.db.read() as connection:
        told = await connection.scalar(text("SELECT details FROM audit_log WHERE tag = 'esims.usage_told'"))
    assert told["percentage"] == 50.0


async def test_no_log_line_has_the_iccid(ears: Ears) -> None:
    _, iccid = await ears.sold()
    with capture_logs() as logs:
        await ears.hear(lifecycle(iccid, "ENABLED", "10:00"), lifecycle(STRANGER, "ENABLED", "10:00"), b"{")
    assert [line["outcome"] for line in logs if line["event"] == "news.looked_at"] == ["applied", "parked", "odd"]
    assert iccid not in repr(logs)
    assert STRANGER not in repr(logs)
