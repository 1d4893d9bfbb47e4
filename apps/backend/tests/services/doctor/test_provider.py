"""The provider's settings."""

import pytest
from pydantic import SecretStr

from app.services.doctor.provider import check_provider
from app.settings import Settings
from tests.services.doctor.conftest import Live, by_name, results, the_failure


async def test_local_is_a_provider_for_trying_out() -> None:
    [found] = await check_provider(Settings())
    assert (found.name, found.result.value) == ("provider", "by hand")
    assert "ESIM_PROVIDER=CONNECTED_YOU" in str(found.to_do)


async def test_a_dry_run_passes_and_names_the_switch_to_live_orders(settings: Settings) -> None:
    found = await check_provider(settings)
    assert results(found) == {"provider": "passed", "live-orders": "by hand"}
    assert "CONNECTED_YOU_DRY_RUN=false" in str(by_name(found)["live-orders"].to_do)


async def test_live_orders_are_told_with_the_host_they_go_to(live: Live) -> None:
    found = by_name(await check_provider(live("https://api.example.com/v1")))
    assert found["provider"].detail == "CONNECTED_YOU; orders go to https://api.example.com/v1"
    assert found["live-orders"].detail.startswith("LIVE ORDERS ARE ON")
    assert found["live-orders"].detail.endswith(" at api.example.com")


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (["connected_you_partner_id"], "CONNECTED_YOU_PARTNER_ID"),
        (["connected_you_api_key"], "CONNECTED_YOU_API_KEY"),
        (["connected_you_partner_id", "connected_you_api_key"], "CONNECTED_YOU_PARTNER_ID and CONNECTED_YOU_API_KEY"),
    ],
)
async def test_what_a_live_order_lacks_is_named(live: Live, missing: list[str], named: str) -> None:
    failure = the_failure(await check_provider(live("https://api.example.com", **dict.fromkeys(missing))))
    assert failure.detail.startswith(f"CONNECTED_YOU needs {named}:")
    assert str(failure.to_do).startswith(f"set {named},")


async def test_a_dry_run_needs_no_key(settings: Settings) -> None:
    assert settings.connected_you_api_key is None
    assert results(await check_provider(settings))["provider"] == "passed"


async def test_no_line_repeats_a_secret(live: Live) -> None:
    secret = live("https://api.example.com", connected_you_api_key=SecretStr("hunter2-hunter2"))
    found = await check_provider(secret)
    assert "hunter2" not in repr(found)
    assert "partner-of-tests" not in repr(found)
