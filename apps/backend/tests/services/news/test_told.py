"""What moved is told on, once: to the seller as events, to the traveller as mail, in the transaction that moved it."""

import itertools
from typing import Any

from sqlalchemy import text

from app.house import House
from app.services.esims.term import note_expiring
from tests.services.news.conftest import Ears, lifecycle, product, usage
from tests.services.webhooks.conftest import an_endpoint

STATES = ("esim.profile_state_changed", "esim.plan_state_changed")
_EVENTS = text("SELECT type, data FROM webhook_events ORDER BY id")
_MAILS = text("SELECT kind FROM outgoing_mails ORDER BY id")
_TERM = text("SELECT plan_active_at::text, plan_expires_at - plan_active_at FROM esim_profiles")


async def told(house: House) -> list[tuple[str, dict[str, Any]]]:
    async with house.db.read() as connection:
        return [(row.type, row.data) for row in await connection.execute(_EVENTS)]


async def mailed(house: House) -> list[str]:
    async with house.db.read() as connection:
        return list(await connection.scalars(_MAILS))


async def test_a_state_that_moves_is_told_with_whose_it_is_and_since_when(house: House) -> None:
    ears = Ears(house)
    await an_endpoint(house, "http://127.0.0.1:9/", *STATES)
    esim_id, iccid = await ears.sold()
    await ears.hear(lifecycle(iccid, "ENABLED", "10:00"), product(iccid, "ACTIVATED", "10:05"))
    whose = {"order_id": 1, "esim_id": esim_id, "is_live": False}
    assert await told(house) == [
        (
            "esim.profile_state_changed",
            whose | {"profile_state": "enabled", "changed_at": "2026-11-20T10:00:00Z"},
        ),
        ("esim.plan_state_changed", whose | {"plan_state": "active", "changed_at": "2026-11-20T10:05:00Z"}),
    ]


async def test_duplicates_older_and_confirming_news_is_told_nobody(house: House) -> None:
    ears = Ears(house)
    await an_endpoint(house, "http://127.0.0.1:9/", *STATES)
    _, iccid = await ears.sold()
    enabled = lifecycle(iccid, "ENABLED", "10:00")
    await ears.hear(enabled, enabled, lifecycle(iccid, "DOWNLOADED", "09:00"), lifecycle(iccid, "ENABLED", "11:00"))
    assert [kind for kind, _ in await told(house)] == ["esim.profile_state_changed"]


async def test_a_threshold_is_told_once_whether_by_its_percentage_or_its_megabytes(house: House) -> None:
    ears = Ears(house)
    await an_endpoint(house, "http://127.0.0.1:9/", "esim.usage_alert")
    esim_id, iccid = await ears.sold()
    await ears.hear(
        usage(iccid, 2600, "10:00", percentage=50.8),
        usage(iccid, 4096, "11:00", percentage=80),
        usage(iccid, 4097, "12:00", percentage=80.02),
    )
    alerts = [data for _, data in await told(house)]
    assert [alert["threshold"] for alert in alerts] == ["data_50", "data_80"]
    assert alerts[1] == {
        "order_id": 1,
        "esim_id": esim_id,
        "is_live": False,
        "threshold": "data_80",
        "data_used_mb": 4096.0,
        "data_total_mb": 5120.0,
        "usage_at": "2026-11-20T11:00:00Z",
    }
    assert await mailed(house) == ["data_80"]


async def test_any_order_of_the_same_usage_tells_the_same_thresholds(house: House) -> None:
    await an_endpoint(house, "http://127.0.0.1:9/", "esim.usage_alert")
    steps = [("2600", "10:00", 50.8), ("4096", "11:00", 80), ("5120", "12:00", 100)]
    for order in itertools.permutations(steps):
        ears = Ears(house)
        esim_id, iccid = await ears.sold()
        await ears.hear(*(usage(iccid, float(used), at, percentage=share) for used, at, share in order))
        mine = [data["threshold"] for _, data in await told(house) if data["esim_id"] == esim_id]
        assert sorted(mine) == ["data_100", "data_50", "data_80"]


async def test_the_first_use_begins_the_plans_days_and_their_end_is_an_alert(house: House) -> None:
    ears = Ears(house)
    await an_endpoint(house, "http://127.0.0.1:9/", "esim.usage_alert")
    _, iccid = await ears.sold()
    await ears.hear(product(iccid, "ACTIVATED", "10:05"))
    async with house.db.begin() as connection:
        [(active_at, term)] = (await connection.execute(_TERM)).all()
        assert active_at.startswith("2026-11-20")
        assert term.days == 30
        await connection.execute(
            text(
                "UPDATE esim_profiles SET plan_active_at = now() - interval '29 days 1 hour',"
                " plan_expires_at = now() + interval '23 hours'"
            )
        )
    assert await note_expiring(house.db) == 1
    assert await note_expiring(house.db) == 0
    assert [data["threshold"] for _, data in await told(house)] == ["expires_24h"]
    assert await mailed(house) == ["expires_24h"]
