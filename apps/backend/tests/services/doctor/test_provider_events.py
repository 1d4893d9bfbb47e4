"""The provider's webhooks: the secret, our address, whether any has come, and those that wait for their eSIM."""

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.services.doctor.findings import Finding
from app.services.doctor.provider_events import check_webhooks
from app.settings import Settings
from tests.services.doctor.conftest import Live, a_house, by_name
from tests.services.news.conftest import Ears, lifecycle

SECRET = SecretStr("a-secret-of-tests-that-is-long")
THEIRS = "https://api.example.com"
OURS = "https://esims.example.com"


async def looked_at(settings: Settings, *events: object) -> dict[str, Finding]:
    house = await a_house(settings)
    try:
        await Ears(house).hear(*events)
        async with house.db.begin() as connection:
            await connection.execute(text("UPDATE provider_events SET received_at = received_at - interval '2 hours'"))
        return by_name(list(await check_webhooks(house)))
    finally:
        await house.db.close()


async def test_a_provider_without_events_has_no_line(settings: Settings) -> None:
    assert await looked_at(settings.model_copy(update={"esim_provider": "LOCAL"})) == {}


async def test_without_a_secret_it_is_told_what_to_set_and_to_enter(settings: Settings) -> None:
    line = (await looked_at(settings.model_copy(update={"public_url": OURS})))["provider-webhooks"]
    assert line.result.value == "by hand"
    assert "CONNECTED_YOU_WEBHOOK_SECRET isn't set" in line.detail
    assert f"{OURS}/api/webhooks/connected_you" in str(line.to_do)
    assert "the header x-webhook-secret" in str(line.to_do)


@pytest.mark.parametrize(
    ("is_live", "public_url", "secret", "result"),
    [
        (True, OURS, SECRET, "by hand"),  # nobody can see from here what stands in the portal
        (True, OURS, SecretStr("sandbox-secret"), "failed"),
        (False, OURS, SecretStr("sandbox-secret"), "by hand"),
        (True, None, SECRET, "failed"),
        (True, "https://127.0.0.1:8443", SECRET, "failed"),
        (True, "https://localhost", SECRET, "failed"),
        (True, "http://esims.example.com", SECRET, "failed"),
        (False, "http://esims.example.com", SECRET, "by hand"),
    ],
)
async def test_what_is_set_must_be_a_secret_and_an_address_that_they_can_reach(
    live: Live, is_live: bool, public_url: str | None, secret: SecretStr, result: str
) -> None:
    shop = live(THEIRS, public_url=public_url, connected_you_webhook_secret=secret, connected_you_dry_run=not is_live)
    found = await looked_at(shop)
    assert found["provider-webhooks"].result.value == result
    assert secret.get_secret_value() not in repr(found)


async def test_a_sandbox_on_this_machine_reaches_what_is_here(live: Live) -> None:
    line = (await looked_at(live("http://127.0.0.1:9000", connected_you_webhook_secret=SECRET)))["provider-webhooks"]
    assert (line.result.value, line.detail) == ("by hand", "the secret is set; none has come yet")
    guessable = live("http://127.0.0.1:9000", connected_you_webhook_secret=SecretStr("sandbox-secret"))
    assert (await looked_at(guessable))["provider-webhooks"].result.value == "by hand"


async def test_once_one_has_come_it_passes(live: Live) -> None:
    shop = live(THEIRS, public_url=OURS, connected_you_webhook_secret=SECRET)
    found = await looked_at(shop, b"{}")
    assert found["provider-webhooks"].result.value == "passed"
    assert found["provider-news"].result.value == "passed"


async def test_events_that_wait_for_their_esim_are_counted_after_an_hour(settings: Settings) -> None:
    house = await a_house(settings)
    await Ears(house).hear(lifecycle("8999900000000000003", "ENABLED", "10:00"))
    soon = by_name(list(await check_webhooks(house)))["provider-news"]
    await house.db.close()
    assert soon.result.value == "passed"
    later = (await looked_at(settings, lifecycle("8999900000000000011", "ENABLED", "10:00")))["provider-news"]
    assert later.result.value == "by hand"
    assert later.detail.endswith(": 2")
    assert "tribi providers news --parked" in str(later.to_do)
