"""`--live`: the offer that is shown, and the purchase, by the code that sells."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from app.errors import ConfigurationError, DatabaseUnavailable, TribiError
from app.house import House
from app.journal import all_of
from app.services.accounts.keys import list_keys
from app.services.doctor import purchase as purchase_module
from app.services.doctor.offer import Offer, make_offer, why_not
from app.services.doctor.purchase import OfferHasChanged, Purchase, buy
from app.services.esim_providers import SupplierNotConfigured
from app.services.esims.pause import pause
from app.settings import Settings
from tests.builders import a_plan
from tests.services.doctor.conftest import API_KEY, Live, a_house, by_name, results, the_failure
from tests.stand_in import StandIn

EMAIL = "operator@example.com"
ANYWHERE = "https://api.example.com"


@pytest.fixture
async def shop(live: Live, supplier: StandIn) -> AsyncIterator[House]:
    """Buys at the stand-in; one plan is on sale."""
    house = await a_house(live(supplier.url))
    await a_plan(house.db, sku="es-5gb")
    yield house
    await house.db.close()


async def offered(shop: House, sku: str | None = None) -> Offer:
    return await make_offer(shop, sku=sku, email=EMAIL)


async def bought(shop: House, offer: Offer | None = None) -> Purchase:
    return await buy(shop, offer or await offered(shop), actor="cli:eva")


async def rows(shop: House, query: str) -> list[tuple[Any, ...]]:
    async with shop.db.read() as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


async def cost(shop: House, sku: str, cost_minor: int) -> None:
    async with shop.db.begin() as connection:
        await connection.execute(
            text("UPDATE plan_codes SET cost_minor = :cost FROM plans WHERE plans.id = plan_id AND sku = :sku"),
            {"cost": cost_minor, "sku": sku},
        )


# --- whether it may be done at all


def test_a_live_provider_may_be_bought_at(live: Live) -> None:
    assert why_not(live(ANYWHERE)) is None


def test_local_and_a_dry_run_sell_nothing_and_the_setting_is_named(settings: Settings) -> None:
    local, dry = why_not(Settings()), why_not(settings)
    assert local is not None
    assert dry is not None
    assert "ESIM_PROVIDER is LOCAL" in the_failure([local]).detail
    assert "CONNECTED_YOU_DRY_RUN" in the_failure([dry]).detail
    assert dry.to_do == "set CONNECTED_YOU_DRY_RUN=false"


@pytest.mark.parametrize(("start", "is_refused"), [(1, True), (5_000_000, False)])
def test_under_replay_order_numbers_must_be_the_installations_own(live: Live, start: int, is_refused: bool) -> None:
    refusal = why_not(live(ANYWHERE, connected_you_unknown_outcome="replay", order_id_start=start))
    assert (refusal is not None) == is_refused
    assert refusal is None or "ORDER_ID_START" in str(refusal.to_do)


# --- the offer


async def test_what_is_shown_is_what_is_sent_but_for_the_key(shop: House, supplier: StandIn) -> None:
    offer = await offered(shop)
    assert supplier.connections == 0
    await bought(shop, offer)
    [sent] = supplier.requests
    shown = offer.shown
    assert (shown.method, shown.url) == (sent.method, f"{supplier.url}{sent.path}")
    assert json.loads(shown.body) == sent.json()
    by_us = {name: value for name, value in sent.headers.items() if name not in {"host", "content-length"}}
    assert by_us.pop("x-api-key") == API_KEY
    assert {name.lower(): value for name, value in shown.headers.items()} == by_us | {"x-api-key": "********"}


async def test_the_cheapest_plan_is_offered_by_its_cost_where_that_is_known(shop: House) -> None:
    await a_plan(shop.db, sku="pt-1gb", price_minor=390)
    await a_plan(shop.db, sku="jp-1gb", price_minor=90, code=None)
    assert (await offered(shop)).new.sku == "pt-1gb"
    await cost(shop, "es-5gb", 640)
    offer = await offered(shop)
    assert (offer.new.sku, offer.price, offer.cost) == ("es-5gb", "12.90 EUR", "6.40 EUR")
    assert (await offered(shop, sku="pt-1gb")).cost == "not in the catalogue"


@pytest.mark.parametrize("sku", ["no-such", "jp-1gb"])
async def test_a_plan_that_cannot_be_bought_is_not_offered(shop: House, sku: str) -> None:
    await a_plan(shop.db, sku="jp-1gb", code=None)
    with pytest.raises(ValueError, match=f"no plan '{sku}' with a code at CONNECTED_YOU is on sale"):
        await offered(shop, sku=sku)


async def test_without_a_plan_there_is_nothing_to_offer(house: House) -> None:
    with pytest.raises(ValueError, match="tribi catalogue import"):
        await make_offer(house, sku=None, email=EMAIL)


async def test_it_is_for_the_shops_own_address_unless_another_is_given(shop: House) -> None:
    with pytest.raises(ValueError, match="--email"):
        await make_offer(shop, sku=None, email=None)
    shop.settings = shop.settings.model_copy(update={"mail_from": "shop@example.com"})
    assert (await make_offer(shop, sku=None, email=None)).new.customer_email == "shop@example.com"
    assert (await offered(shop)).new.customer_email == EMAIL


async def test_a_setting_that_is_missing_is_told_before_anything_is_shown(shop: House) -> None:
    shop.settings = shop.settings.model_copy(update={"connected_you_partner_id": None})
    with pytest.raises(SupplierNotConfigured, match="CONNECTED_YOU_PARTNER_ID"):
        await offered(shop)


# --- the purchase


async def test_one_esim_is_bought_and_is_on_file_as_any_other(shop: House, supplier: StandIn) -> None:
    purchase = await bought(shop)
    [issued] = supplier.issued
    assert set(results(purchase.findings).values()) == {"passed"}
    assert by_name(purchase.findings)["live-purchase"].detail.startswith(f"one eSIM was bought: {issued.reference} is ")
    assert f'"{issued.activation_code}"' in [field.got for field in purchase.fields]
    assert issued.activation_code not in repr(purchase.findings)
    assert issued.iccid not in repr(purchase.findings)

    assert await rows(shop, "SELECT 'order-' || id, status, customer_email FROM orders") == [
        (issued.reference, "paid", EMAIL)
    ]
    assert await rows(shop, "SELECT status, is_live FROM esim_profiles") == [("provisioned", True)]
    assert await rows(shop, "SELECT reference, outcome, requested_by FROM provisioning_attempts") == [
        (issued.reference, "delivered", "cli:eva")
    ]
    journal = all_of(shop.settings.journal_dir / shop.identity)
    assert [line.reference for line in journal] == [issued.reference]
    tags = [tag for (tag,) in await rows(shop, "SELECT tag FROM audit_log ORDER BY id")]
    assert tags == [
        *("keys.created", "keys.revoked", "orders.placed"),
        *("esims.activation_started", "esims.provisioned", "esims.viewed"),
    ]
    assert await rows(shop, "SELECT task_name FROM procrastinate_jobs") == [("esims.provisioned",)]


async def test_it_is_bought_in_the_name_of_a_key_that_nobody_can_use_and_that_is_made_once(shop: House) -> None:
    for _ in range(2):
        await bought(shop)
    async with shop.db.read() as connection:
        [key] = [key for key in await list_keys(connection) if key.name == "tribi doctor"]
    assert key.revoked_at is not None
    assert await rows(shop, "SELECT DISTINCT placed_by_key_id FROM orders") == [(key.id,)]


async def test_what_is_odd_about_the_answer_is_told(shop: House, supplier: StandIn) -> None:
    supplier.script("code_sample")
    found = by_name((await bought(shop)).findings)
    assert found["live-data.activationCode"].result.value == "by hand"
    assert "activation-code-not-sgp22" in found["live-warnings"].detail


@pytest.mark.parametrize("fault", ["status_402", "status_429", "refuse"])
async def test_where_surely_nothing_was_bought_the_order_is_cancelled(
    shop: House, supplier: StandIn, fault: str
) -> None:
    if fault == "refuse":
        supplier.refuse()
    else:
        supplier.script(fault)
    failure = the_failure((await bought(shop)).findings)
    assert failure.detail.startswith("nothing was bought, and order-1 is cancelled: ")
    assert await rows(
        shop, "SELECT orders.status, p.status FROM orders JOIN esim_profiles p ON order_id = orders.id"
    ) == [("cancelled", "cancelled")]
    assert await rows(shop, "SELECT actor FROM audit_log WHERE tag = 'orders.cancelled'") == [("cli:eva",)]
    assert supplier.issued == []


async def test_an_unknown_outcome_says_what_to_do_next_and_stays_unknown(shop: House, supplier: StandIn) -> None:
    supplier.script("close_after")
    failure = the_failure((await bought(shop)).findings)
    assert failure.detail.startswith("order-1 was sent, and whether an eSIM was bought is not known")
    assert "tribi esims resolve 1 --issued CODE" in str(failure.to_do)
    assert await rows(shop, "SELECT status FROM esim_profiles") == [("unknown",)]
    assert len(supplier.issued) == 1


async def test_a_database_that_goes_away_after_the_call_is_not_told_as_nothing_sent(
    shop: House, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnavailable("it is away")

    monkeypatch.setattr(purchase_module, "esim_by_order", away)
    failure = the_failure((await bought(shop)).findings)
    assert failure.detail == "order-1 may have been sent, and how it ended can't be read: it is away"
    assert str(failure.to_do).startswith("buy no other")
    assert len(supplier.issued) == 1


async def test_a_paused_provider_is_sent_nothing(shop: House, supplier: StandIn) -> None:
    async with shop.db.begin() as connection:
        await pause(connection, "CONNECTED_YOU", reason="no", actor="cli:eva")
    assert the_failure((await bought(shop)).findings).detail.startswith("nothing was bought")
    assert supplier.request_count == 0


@pytest.mark.parametrize("what", ["plan", "partner", "address"])
async def test_what_has_changed_since_it_was_shown_is_not_bought(shop: House, supplier: StandIn, what: str) -> None:
    offer = await offered(shop)
    changes: dict[str, str] = {"partner": "connected_you_partner_id", "address": "connected_you_base_url"}
    if what == "plan":
        async with shop.db.begin() as connection:
            await connection.execute(text("UPDATE plan_codes SET external_id = 'CY-ES-500GB'"))
    else:
        shop.settings = shop.settings.model_copy(update={changes[what]: "http://127.0.0.1:1"})
    with pytest.raises(OfferHasChanged):
        await bought(shop, offer)
    assert supplier.connections == 0
    assert await rows(shop, "SELECT id FROM orders") == []


async def test_without_a_journal_nothing_is_bought(shop: House, supplier: StandIn) -> None:
    offer = await offered(shop)
    shop.settings.journal_dir.parent.mkdir(parents=True, exist_ok=True)
    shop.settings.journal_dir.write_text("a file where the folder should be")
    with pytest.raises((ConfigurationError, TribiError)):
        await bought(shop, offer)
    assert supplier.connections == 0
    assert await rows(shop, "SELECT id FROM orders") == []


async def test_no_proxy_of_the_environment_comes_between(
    shop: House, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check_repeaters` says so."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await bought(shop)
    assert len(supplier.issued) == 1
