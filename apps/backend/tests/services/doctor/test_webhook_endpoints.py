"""The seller's endpoints: a line once there are any, and a failure while one takes nothing."""

import pytest
from sqlalchemy import text

from app.house import House
from app.services.doctor.webhook_endpoints import check_addresses, check_endpoints
from app.services.webhooks.endpoints import add_endpoint
from app.settings import Settings
from tests.services.doctor.conftest import Live, results


@pytest.mark.parametrize(
    ("becomes", "result"),
    [
        ("failing_since = now() - interval '59 minutes'", "passed"),
        ("failing_since = now() - interval '61 minutes'", "failed"),
        ("disabled_at = now(), disabled_because = 'gone'", "failed"),
        ("disabled_at = now(), disabled_because = 'failing'", "failed"),
        ("disabled_at = now(), disabled_because = 'asked'", None),
    ],
)
async def test_an_endpoint_that_takes_nothing_is_a_failure(house: House, becomes: str, result: str | None) -> None:
    assert await check_endpoints(house) == []
    async with house.db.begin() as connection:
        await add_endpoint(
            connection, house.keyring, "https://shop.example.com/", [], allow_private=False, actor="test"
        )
    assert results(await check_endpoints(house)) == {"webhook-endpoints": "passed"}
    async with house.db.begin() as connection:
        await connection.execute(text(f"UPDATE webhook_endpoints SET {becomes}"))  # noqa: S608
    assert results(await check_endpoints(house)) == ({} if result is None else {"webhook-endpoints": result})


async def test_what_is_for_development_is_a_failure_once_orders_are_live(settings: Settings, live: Live) -> None:
    url, private = "https://api.example.com", {"webhooks_allow_private": True}
    assert results(await check_addresses(live(url))) == {"webhook-addresses": "passed"}
    assert results(await check_addresses(settings.model_copy(update=private))) == {"webhook-addresses": "by hand"}
    [found] = await check_addresses(live(url, **private))
    assert (found.result.value, "WEBHOOKS_ALLOW_PRIVATE" in found.detail) == ("failed", True)
