"""Orders that wait, and what keeps orders from going out."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from app.held import hold
from app.house import House
from app.services.doctor.orders import check_orders
from app.services.doctor.spending import check_first_live, check_spending
from app.services.esim_providers import SupplierUnreachable, get_esim_provider
from app.services.esims.circuit import Circuit, Standing
from app.services.esims.pause import pause
from app.settings import Settings
from tests.builders import an_order
from tests.services.doctor.conftest import Live, by_name, results, the_failure

SOMEWHERE = "https://api.example.com"


_LIVE_ATTEMPT = (
    "INSERT INTO provisioning_attempts"
    " (profile_id, provider, is_live, reference, base_url, requested_by, deadline_at, outcome, closed_at)"
    " SELECT id, 'CONNECTED_YOU', true, 'order-1', :base_url, 'test', now(), 'delivered', now() FROM esim_profiles"
)


async def changed(house: House, statement: str, **values: str) -> None:
    async with house.db.begin() as connection:
        await connection.execute(text(statement), values)


def of(house: House, settings: Settings) -> House:
    return replace(house, settings=settings)


async def test_a_shop_in_which_nothing_waits_passes(house: House) -> None:
    await an_order(house.db)
    assert results(await check_orders(house)) == {"unknown-outcomes": "passed", "unfulfilled-orders": "passed"}


async def test_an_unknown_outcome_fails_with_the_command_that_settles_it(house: House) -> None:
    await an_order(house.db)
    await changed(house, "UPDATE esim_profiles SET status = 'unknown'")
    failure = the_failure(await check_orders(house))
    assert failure.name == "unknown-outcomes"
    assert str(failure.to_do).startswith("tribi esims list --status unknown")


async def test_a_paid_order_without_an_esim_fails_after_a_quarter_of_an_hour(house: House) -> None:
    await an_order(house.db)
    await changed(house, "UPDATE esim_profiles SET created_at = now() - interval '16 minutes'")
    failure = the_failure(await check_orders(house))
    assert failure.name == "unfulfilled-orders"
    assert str(failure.to_do).startswith("tribi esims list --unfulfilled")


async def test_a_provider_that_nothing_keeps_back_passes(house: House) -> None:
    assert results(await check_spending(house))["provider-paused"] == "passed"


async def test_held_mode_is_another_lines_matter(house: House) -> None:
    await hold(house.db, forgotten=1)
    assert results(await check_spending(house))["provider-paused"] == "passed"


async def test_a_persons_pause_is_a_persons_to_end(house: House) -> None:
    async with house.db.begin() as connection:
        await pause(connection, "CONNECTED_YOU", reason="their prices doubled", actor="cli:eva")
    line = by_name(await check_spending(house))["provider-paused"]
    assert line.result.value == "by hand"
    assert line.detail.startswith("paused by cli:eva since 2")
    assert line.detail.endswith(": their prices doubled")
    assert line.to_do == "when that is over: tribi providers resume connected_you"


async def test_an_open_circuit_fails(house: House, live: Live) -> None:
    shop = of(house, live(SOMEWHERE, provider_circuit_failures=1))
    await Circuit(shop.db, get_esim_provider(shop.settings), 1).heard(Standing(), SupplierUnreachable("away"))
    failure = the_failure(await check_spending(shop))
    assert (failure.name, "(provider-unreachable)" in failure.detail) == ("provider-paused", True)


async def a_live_attempt(house: House, base_url: str = SOMEWHERE) -> None:
    await an_order(house.db)
    await changed(house, _LIVE_ATTEMPT, base_url=base_url)


async def test_a_cap_that_is_used_up_fails(house: House, live: Live) -> None:
    await a_live_attempt(house)
    shop = of(house, live(SOMEWHERE, live_esims_per_hour=1))
    failure = the_failure(await check_spending(shop))
    assert failure.detail.startswith("LIVE_ESIMS_PER_HOUR is used up until 2")


async def test_a_cap_passes_with_what_was_bought_under_it(house: House, live: Live) -> None:
    await a_live_attempt(house)
    shop = of(house, live(SOMEWHERE, live_esims_per_day=7))
    line = by_name(await check_spending(shop))["spend-cap"]
    assert (line.result.value, line.detail) == (
        "passed",
        "at most any number an hour, 7 a day; bought: 1 in the last hour, 1 in the last day",
    )


@pytest.mark.parametrize("is_dry_run", [False, True])
async def test_no_cap_is_a_persons_decision(house: House, live: Live, is_dry_run: bool) -> None:
    shop = of(house, live(SOMEWHERE, connected_you_dry_run=is_dry_run))
    line = by_name(await check_spending(shop))["spend-cap"]
    assert line.result.value == "by hand"
    assert "LIVE_ESIMS_PER_HOUR" in str(line.to_do)


async def test_local_has_no_cap_and_no_first_esim(house: House) -> None:
    shop = of(house, house.settings.model_copy(update={"esim_provider": "LOCAL"}))
    assert results(await check_spending(shop)) == {"provider-paused": "passed"}
    assert await check_first_live(shop) == []


async def test_a_first_live_esim_is_wanted_by_hand_where_orders_go_now(house: House, live: Live) -> None:
    await a_live_attempt(house, "https://sandbox.example.com")
    shop = of(house, live(SOMEWHERE))
    [found] = await check_first_live(shop)
    assert (found.result.value, "tribi doctor --live" in str(found.to_do)) == ("by hand", True)
    await changed(house, "UPDATE provisioning_attempts SET base_url = :base_url", base_url=SOMEWHERE)
    [found] = await check_first_live(shop)
    assert found.result.value == "passed"
    assert found.detail.startswith(f"live eSIMs that came from {SOMEWHERE}: 1, the last on 2")
