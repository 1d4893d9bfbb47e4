"""POST /api/esims/activate, where the provider fails: each class of failure, and what may come after it."""

import asyncio
from typing import Any

import pytest

from app.services.esims.activate import Activation, Activations
from tests.api.conftest import API_KEY, OpenLive, requests_for, script
from tests.api.serving import Shop
from tests.processes.programs import until
from tests.stand_in import StandIn, respond

THEIR_WORDS = "sold-out-says-the-supplier"


async def status_of(shop: Shop, order: dict[str, Any]) -> str:
    return str((await shop.get(f"/api/esims/{order['esim']['id']}")).json()["status"])


REFUSED = ["status_400", "status_401", "status_402", "status_403", "status_404", "status_422", "status_451"]
UNKNOWN = [
    "status_408_before", "status_409_after", "status_425_before", "status_500_after", "status_503_before",
    "status_999_after", "status_202_before", "status_204_after", "redirect_303_after", "redirect_307_before",
    "lone_101_after", "close_after", "reset_before", "reset_mid_body", "half_json", "half_json_sized", "code_missing",
    "code_prefix_only", "reference_other", "data_null", "error_body_before", "chunked_cut",
]  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
async def test_the_providers_no_is_a_refusal(live_shop: Shop, supplier: StandIn, fault: str) -> None:
    order = await live_shop.ordered()
    script(supplier, fault, order)
    reply = await live_shop.activate(order["id"])
    assert reply.problem == (502, "provider-refused")
    assert reply.json()["retryable"] is False
    assert "Retry-After" not in reply.headers
    assert await status_of(live_shop, order) == "refused"
    assert (await live_shop.activate(order["id"])).status == 201  # it may be tried again


@pytest.mark.parametrize("fault", UNKNOWN)
async def test_whatever_is_no_clear_answer_is_unknown_and_not_sent_again(
    live_shop: Shop, supplier: StandIn, fault: str
) -> None:
    order = await live_shop.ordered()
    script(supplier, fault, order)
    reply = await live_shop.activate(order["id"])
    assert reply.problem == (502, "activation-outcome-unknown")
    assert reply.json()["retryable"] is False
    assert await status_of(live_shop, order) == "unknown"

    again = await live_shop.activate(order["id"])
    assert again.problem == (409, "activation-outcome-unknown")
    assert again.json()["retryable"] is False
    assert requests_for(supplier, order) == 1


async def test_no_answer_in_time_is_unknown(open_live: OpenLive, own_supplier: StandIn) -> None:
    supplier, shop = own_supplier, await open_live(connected_you_timeout_seconds=2)  # time to connect, on any machine
    order = await shop.ordered()
    script(supplier, "hang_after", order)
    assert (await shop.activate(order["id"])).problem == (502, "activation-outcome-unknown")
    assert (await shop.activate(order["id"])).problem == (409, "activation-outcome-unknown")
    assert requests_for(supplier, order) == 1


async def test_a_provider_that_cannot_be_reached_got_nothing(open_live: OpenLive, own_supplier: StandIn) -> None:
    shop = await open_live()
    order = await shop.ordered()
    own_supplier.refuse()
    reply = await shop.activate(order["id"])
    assert reply.problem == (502, "provider-unreachable")
    assert reply.json()["retryable"] is True
    assert await status_of(shop, order) == "pending"
    await own_supplier.listen()
    assert (await shop.activate(order["id"])).status == 201


@pytest.mark.parametrize("base_url", ["https://{address}", "http://nobody.invalid:1"])
async def test_a_failed_handshake_or_name_is_a_provider_that_cannot_be_reached(
    open_live: OpenLive, own_supplier: StandIn, base_url: str
) -> None:
    address = own_supplier.url.removeprefix("http://")
    shop = await open_live(
        connected_you_base_url=base_url.format(address=address),
        connected_you_allow_http=True,
        connected_you_timeout_seconds=0.5,
    )
    order = await shop.ordered()
    assert (await shop.activate(order["id"])).problem == (502, "provider-unreachable")
    assert own_supplier.request_count == 0


async def test_a_provider_that_asks_to_wait_without_saying_how_long_is_not_held_back(
    live_shop: Shop, supplier: StandIn
) -> None:
    order = await live_shop.ordered()
    script(supplier, "status_429", order)
    reply = await live_shop.activate(order["id"])
    assert reply.problem == (502, "provider-rate-limited")
    assert reply.json()["retryable"] is True
    assert "Retry-After" not in reply.headers
    assert await status_of(live_shop, order) == "pending"
    assert (await live_shop.activate(order["id"])).status == 201


@pytest.mark.parametrize("fault", ["status_429_seconds-60", "status_429_date-60"])
async def test_until_the_provider_may_be_asked_again_nothing_is_sent(
    open_live: OpenLive, own_supplier: StandIn, fault: str
) -> None:
    shop = await open_live()
    order, another = await shop.ordered(), await shop.ordered()
    script(own_supplier, fault, order)
    reply = await shop.activate(order["id"])
    assert reply.problem == (502, "provider-rate-limited")
    assert 50 <= int(reply.headers["Retry-After"]) <= 60

    for held in (order, another):
        reply = await shop.activate(held["id"])
        assert reply.problem == (503, "provider-rate-limited")
        assert reply.json()["retryable"] is True
        assert 40 <= int(reply.headers["Retry-After"]) <= 60
        assert await status_of(shop, held) == "pending"
    assert own_supplier.request_count == 1


@pytest.mark.parametrize(
    "missing", [{"connected_you_api_key": None}, {"connected_you_partner_id": None}], ids=["api key", "partner id"]
)
async def test_without_its_settings_nothing_is_sent(
    open_live: OpenLive, own_supplier: StandIn, missing: dict[str, None]
) -> None:
    shop = await open_live(**missing)
    order = await shop.ordered()
    reply = await shop.activate(order["id"])
    assert reply.problem == (502, "provider-not-configured")
    assert reply.json()["retryable"] is False
    assert await status_of(shop, order) == "pending"
    assert (own_supplier.request_count, own_supplier.connections) == (0, 0)


async def test_the_dry_run_needs_the_partner_id(open_live: OpenLive, own_supplier: StandIn) -> None:
    shop = await open_live(connected_you_dry_run=True, connected_you_partner_id=None, connected_you_api_key=None)
    order = await shop.ordered()
    assert (await shop.activate(order["id"])).problem == (502, "provider-not-configured")
    assert await status_of(shop, order) == "pending"
    assert own_supplier.connections == 0


async def test_while_every_place_is_taken_an_order_stays_pending(open_live: OpenLive, own_supplier: StandIn) -> None:
    supplier, shop = own_supplier, await open_live(provider_max_concurrency=1, activation_wait_seconds=0.1)
    held, order = await shop.ordered(), await shop.ordered()
    script(supplier, "hold", held)
    assert (await shop.activate(held["id"], headers={"Prefer": "respond-async"})).status == 202
    await supplier.wait_until_held(1)

    for headers in ({}, {"Prefer": "respond-async"}):
        reply = await shop.activate(order["id"], headers=headers)
        assert reply.problem == (503, "provider-busy")
        assert reply.json()["retryable"] is True
        assert int(reply.headers["Retry-After"]) > 0
        assert await status_of(shop, order) == "pending"
    assert supplier.request_count == 1


async def test_a_failure_is_the_same_for_all_who_waited(
    live_shop: Shop, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, activate = [], Activations.activate

    async def joined(self: Activations, order_id: int, **asked: Any) -> Activation:
        waiting.append(order_id)
        return await activate(self, order_id, **asked)

    monkeypatch.setattr(Activations, "activate", joined)
    order = await live_shop.ordered()
    script(supplier, "hold", order)
    calls = [asyncio.create_task(live_shop.activate(order["id"])) for _ in range(5)]
    await until(lambda: waiting == [order["id"]] * 5)
    await supplier.wait_until_held(1)
    supplier.release(then="status_500_after")
    replies = await asyncio.gather(*calls)
    assert {reply.problem for reply in replies} == {(502, "activation-outcome-unknown")}
    assert len({reply.json()["detail"] for reply in replies}) == 1
    assert requests_for(supplier, order) == 1


@pytest.mark.parametrize("status", [400, 401, 429, 500, 200, 302])
async def test_a_failure_tells_the_client_nothing_of_what_the_provider_said(
    live_shop: Shop, supplier: StandIn, status: int
) -> None:
    order = await live_shop.ordered()
    code, iccid = "LPA:1$RSP.EXAMPLE.COM$SECRET-MATCHING-ID", "8910300000000000015"
    said = {
        "error": THEIR_WORDS,
        "key": API_KEY,
        "partner": "partner-of-tests",
        "request": order["customer"],
        "codes": [code, iccid],
    }
    headers = [("X-Their-Words", THEIR_WORDS), ("Location", f"http://127.0.0.1:9/{THEIR_WORDS}")]
    script(supplier, respond(status, said, headers), order)
    reply = await live_shop.activate(order["id"])
    assert reply.status == 502
    told = reply.body + repr(reply.headers).encode()
    for secret in (
        THEIR_WORDS,
        API_KEY,
        "partner-of-tests",
        "ana@example.com",
        "Ana",
        "SECRET-MATCHING-ID",
        iccid,
        supplier.url,
    ):
        assert secret.encode() not in told
    shown = (await live_shop.get(f"/api/orders/{order['id']}")).body
    for secret in (THEIR_WORDS, API_KEY, "partner-of-tests", "SECRET-MATCHING-ID", iccid):
        assert secret.encode() not in shown
