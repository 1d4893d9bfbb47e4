"""This machine's clock against the database's and the provider's."""

import re
import time

import pytest

from app.house import House
from app.services.doctor.clocks import check_clocks
from tests.services.doctor.conftest import Live, a_house, the_failure
from tests.stand_in import StandIn

HOUR_S = 3600


async def test_clocks_that_agree_pass(house: House) -> None:
    [found] = await check_clocks(house)
    assert (found.result.value, found.detail) == ("passed", "this machine's is less than a second from the database's")


@pytest.mark.parametrize(("by_s", "side"), [(HOUR_S, "ahead of"), (-HOUR_S, "behind")])
async def test_a_clock_that_is_not_the_databases_fails(
    house: House, monkeypatch: pytest.MonkeyPatch, by_s: int, side: str
) -> None:
    now = time.time
    monkeypatch.setattr("app.services.doctor.clocks.time.time", lambda: now() + by_s)
    failure = the_failure(await check_clocks(house))
    assert re.fullmatch(f"this machine's is (3600|3599) s {side} the database's", failure.detail)
    assert "timedatectl set-ntp true" in str(failure.to_do)


@pytest.mark.parametrize(
    ("by_s", "result", "said"), [(0, "passed", "less than a second from"), (HOUR_S, "failed", r"(3600|3599) s behind")]
)
async def test_the_providers_clock_counts_and_is_asked_without_the_key(
    live: Live, by_s: int, result: str, said: str
) -> None:
    async with StandIn(now=lambda: time.time() + by_s) as supplier:
        house = await a_house(live(supplier.url))
        [found] = await check_clocks(house)
        await house.db.close()
        [asked] = supplier.requests
        assert (asked.method, "x-api-key" in asked.headers) == ("HEAD", False)
        assert supplier.violations == []
    assert found.result.value == result
    assert re.search(f"database's, {said} the provider's$", found.detail)


async def test_a_provider_that_tells_no_time_is_left_out(live: Live) -> None:
    house = await a_house(live("http://127.0.0.1:1"))
    [found] = await check_clocks(house)
    await house.db.close()
    assert (found.result.value, "provider" in found.detail) == ("passed", False)


async def test_in_a_dry_run_the_provider_is_not_asked(live: Live, supplier: StandIn) -> None:
    house = await a_house(live(supplier.url, connected_you_dry_run=True))
    await check_clocks(house)
    await house.db.close()
    assert supplier.connections == 0
