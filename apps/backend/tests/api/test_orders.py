"""POST /api/orders and GET /api/orders/{id}."""

import asyncio
import re
from collections import Counter
from datetime import datetime

import pytest
from multidict import CIMultiDict
from sqlalchemy import func, select, update

from app.models import EsimProfile, IdempotencyKey, Order, Plan, PlanCode
from tests.api.serving import Shop, a_name, a_wish
from tests.builders import a_key, a_plan
from tests.stand_in import StandIn

ESIM_FIELDS = {
    "id", "order_id", "status", "is_live", "provider", "provider_reference", "provisioned_at", "activation_code",
    "smdp_address", "matching_id", "confirmation_code_required", "iccid", "qr_code", "qr_png_url", "qr_svg_url", "install",
    "instructions", "profile_state", "plan_state", "data_used_mb", "data_total_mb", "usage_at", "warnings",
}  # fmt: skip
ORDER_FIELDS = {"id", "status", "sku", "plan_snapshot", "amount_minor", "currency", "customer", "esim", "created_at"}


async def test_a_placed_order_has_the_fields_of_the_design_and_no_others(shop: Shop) -> None:
    sku = await a_plan(shop.db, code="CY-1", name="Spain 5GB", price_minor=1290, currency="EUR")
    reply = await shop.place(a_wish(sku))

    assert reply.status == 201
    order = reply.json()
    assert reply.headers["Location"] == f"/api/orders/{order['id']}"
    assert "Idempotent-Replayed" not in reply.headers
    assert set(order) == ORDER_FIELDS
    created_at = datetime.fromisoformat(order.pop("created_at"))
    assert created_at.utcoffset() is not None
    esim = order.pop("esim")
    order_id = order.pop("id")
    assert order == {
        "status": "paid",
        "sku": sku,
        "plan_snapshot": {
            "sku": sku,
            "name": "Spain 5GB",
            "country_iso2": "ES",
            "countries": ["ES"],
            "data_mb": 5120,
            "validity_days": 30,
            "price_minor": 1290,
            "currency": "EUR",
            "provider": "CONNECTED_YOU",
            "external_id": "CY-1",
        },
        "amount_minor": 1290,
        "currency": "EUR",
        "customer": {"email": "ana@example.com", "name": "Ana Traveller"},
    }
    assert set(esim) == ESIM_FIELDS
    assert esim.pop("id") > 0
    install = esim.pop("install")
    assert re.fullmatch(r"http://[^/]+/i/[a-z2-7]{32}", install.pop("page_url"))
    assert install == {"ios_url": None, "android_url": None}
    assert {field: value for field, value in esim.items() if value is not None} == {
        "order_id": order_id,
        "status": "pending",
        "is_live": False,
        "provider": "CONNECTED_YOU",
        "confirmation_code_required": False,
        "warnings": [],
    }


async def test_an_order_of_a_region_keeps_its_countries_and_the_provider_is_told_the_primary_one(
    live_shop: Shop, supplier: StandIn
) -> None:
    order = await live_shop.ordered(country_iso2="PT", other_countries=["ES", "FR"])
    snapshot = order["plan_snapshot"]
    assert (snapshot["country_iso2"], snapshot["countries"]) == ("PT", ["PT", "ES", "FR"])
    await live_shop.activate(order["id"])
    (request,) = supplier.requests_for(f"order-{order['id']}")
    assert request.json()["countryIso2"] == "PT"


async def test_an_order_from_before_there_were_regions_was_for_one_country(shop: Shop) -> None:
    order = await shop.ordered()
    older = {name: value for name, value in order["plan_snapshot"].items() if name != "countries"}
    async with shop.db.begin() as connection:
        await connection.execute(update(Order).where(Order.id == order["id"]).values(plan_snapshot=older))
    assert (await shop.get(f"/api/orders/{order['id']}")).json()["plan_snapshot"]["countries"] == ["ES"]


async def test_an_order_is_looked_at_as_it_was_placed(shop: Shop) -> None:
    order = await shop.ordered()
    reply = await shop.get(f"/api/orders/{order['id']}")
    assert (reply.status, reply.json()) == (200, order)


async def test_what_was_sold_stays_as_it_was_when_the_plan_changes(shop: Shop) -> None:
    order = await shop.ordered(code="CY-1")
    async with shop.db.begin() as connection:
        plan_id = await connection.scalar(select(Plan.id).where(Plan.sku == order["sku"]))
        await connection.execute(update(Plan).where(Plan.id == plan_id).values(name="Dearer", price_minor=9, data_mb=1))
        await connection.execute(update(PlanCode).where(PlanCode.plan_id == plan_id).values(external_id="CY-2"))
    assert (await shop.get(f"/api/orders/{order['id']}")).json() == order


async def test_the_name_and_the_address_are_kept_without_the_space_around_them(shop: Shop) -> None:
    customer = {"email": " ana@EXAMPLE.com ", "name": "  Ána 旅人 O'Brien "}
    reply = await shop.place(a_wish(await a_plan(shop.db), customer=customer))
    assert reply.json()["customer"] == {"email": "ana@example.com", "name": "Ána 旅人 O'Brien"}


# --- Idempotency-Key


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": ""}, {"Idempotency-Key": " "}, {"Idempotency-Key": '""'}])
async def test_without_an_idempotency_key_nothing_is_ordered(shop: Shop, headers: dict[str, str]) -> None:
    reply = await shop.post("/api/orders", a_wish("whatever"), headers=headers)
    assert reply.problem == (400, "idempotency-key-missing")


@pytest.mark.parametrize(
    "key", ["k" * 256, f'"{"k" * 256}"', "two words", '"two words"', "ключ", "tab\tkey", "a, b"], ids=ascii
)
async def test_an_idempotency_key_has_1_to_255_visible_ascii_characters(shop: Shop, key: str) -> None:
    reply = await shop.place(a_wish(await a_plan(shop.db)), key=key)
    assert reply.problem == (422, "validation-failed")


@pytest.mark.parametrize("second", ["another", ""])
async def test_two_idempotency_keys_are_refused(shop: Shop, second: str) -> None:
    headers = CIMultiDict([("Idempotency-Key", a_name("key")), ("Idempotency-Key", second)])
    reply = await shop.post("/api/orders", a_wish(await a_plan(shop.db)), headers=headers)
    assert reply.problem == (422, "validation-failed")


async def test_the_longest_idempotency_key_is_taken_bare_and_quoted(shop: Shop) -> None:
    key = a_name("key").ljust(255, "~")
    wish = a_wish(await a_plan(shop.db))
    replies = [await shop.place(wish, key=text) for text in (key, f'"{key}"')]
    assert [reply.status for reply in replies] == [201, 201]
    assert replies[0].json() == replies[1].json()
    assert replies[1].headers["Idempotent-Replayed"] == "true"


async def test_a_quote_or_backslash_in_a_quoted_key_is_escaped(shop: Shop) -> None:
    wish = a_wish(await a_plan(shop.db))
    name = a_name("key")
    first = await shop.place(wish, key=f'a"\\{name}')
    again = await shop.place(wish, key=f'"a\\"\\\\{name}"')
    assert again.json() == first.json()


async def test_the_same_body_spelled_otherwise_gets_the_same_order(shop: Shop) -> None:
    sku, key = await a_plan(shop.db), a_name("key")
    first = await shop.place(a_wish(sku), key=key)
    other_spelling = (
        f' {{ "payment":{{"reference":"pay_42","status":"paid"}},\n"customer":{{"name":"Ana\\u0020Traveller",'
        f'"email":"ana@example.com"}}, "sku" : "{sku}" }} '
    )
    again = await shop.place(other_spelling.encode(), key=key)
    assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert again.json() == first.json()


async def test_a_replay_shows_the_order_as_it_is_now(shop: Shop) -> None:
    wish, key = a_wish(await a_plan(shop.db)), a_name("key")
    order = (await shop.place(wish, key=key)).json()
    esim = (await shop.activate(order["id"])).json()
    assert (await shop.place(wish, key=key)).json() == order | {"esim": esim}


@pytest.mark.parametrize(
    "change",
    [
        {"customer": {"email": "ana@example.com", "name": "Another"}},
        {"customer": {"email": "bob@example.com", "name": "Ana Traveller"}},
        {"payment": {"status": "paid", "reference": "pay_43"}},
    ],
    ids=["name", "email", "payment"],
)
async def test_the_same_key_with_another_body_is_refused(shop: Shop, change: dict[str, object]) -> None:
    sku, key = await a_plan(shop.db), a_name("key")
    await shop.place(a_wish(sku), key=key)
    reply = await shop.place(a_wish(sku, **change), key=key)
    assert reply.problem == (422, "idempotency-key-reused")


async def test_idempotency_keys_are_one_space_for_all_service_keys(shop: Shop) -> None:
    _, secret = await a_key(shop.db)
    sku, key = await a_plan(shop.db), a_name("key")
    first = await shop.place(a_wish(sku), key=key)
    again = await shop.place(a_wish(sku), key=key, headers={"Authorization": f"Bearer {secret}"})
    other = await shop.place(
        a_wish(sku, payment={"status": "paid", "reference": "x"}),
        key=key,
        headers={"Authorization": f"Bearer {secret}"},
    )
    assert again.json() == first.json()
    assert other.problem == (422, "idempotency-key-reused")


async def test_an_idempotency_key_outlives_the_plan(shop: Shop) -> None:
    sku, key = await a_plan(shop.db), a_name("key")
    first = await shop.place(a_wish(sku), key=key)
    async with shop.db.begin() as connection:
        await connection.execute(update(Plan).where(Plan.sku == sku).values(is_on_sale=False))
    assert (await shop.place(a_wish(sku), key=key)).json() == first.json()


async def test_of_twenty_posts_at_once_with_one_key_one_places_the_order(shop: Shop) -> None:
    sku, key = await a_plan(shop.db), a_name("key")
    replies = await asyncio.gather(*(shop.place(a_wish(sku), key=key) for _ in range(20)))

    placed = [reply for reply in replies if reply.status == 201]
    assert len({reply.json()["id"] for reply in placed}) == 1
    assert Counter(reply.headers.get("Idempotent-Replayed") for reply in placed)[None] == 1
    refused = [reply for reply in replies if reply.status != 201]
    assert {reply.problem for reply in refused} <= {(409, "idempotency-key-in-progress")}
    assert all(reply.json()["retryable"] and reply.headers["Retry-After"] == "1" for reply in refused)
    async with shop.db.read() as connection:
        assert await connection.scalar(select(func.count()).where(Order.plan_snapshot["sku"].astext == sku)) == 1


async def test_while_the_first_request_is_worked_on_the_second_is_told_so(shop: Shop) -> None:
    wish, key = a_wish(await a_plan(shop.db)), a_name("key")
    async with shop.db.begin() as connection:
        # as the first request has it while it works
        await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 4816))))
        reply = await shop.place(wish, key=key)
    assert reply.problem == (409, "idempotency-key-in-progress")
    assert (await shop.place(wish, key=key)).status == 201


async def test_a_request_that_failed_does_not_use_up_its_key(shop: Shop) -> None:
    key = a_name("key")
    unmapped = a_wish(await a_plan(shop.db, code=None))
    assert (await shop.place({}, key=key)).status == 422
    assert (await shop.place(a_wish("no-such-plan"), key=key)).status == 422
    assert (await shop.place(unmapped, key=key)).status == 422
    reply = await shop.place(a_wish(await a_plan(shop.db)), key=key)
    assert reply.status == 201
    assert "Idempotent-Replayed" not in reply.headers


# --- plans that can't be sold


@pytest.mark.parametrize("sku", ["no-such-plan", "a/b", "%00", "..", "x" * 64])
async def test_an_unknown_sku_is_refused_by_name(shop: Shop, sku: str) -> None:
    reply = await shop.place(a_wish(sku))
    assert reply.problem == (422, "validation-failed")
    assert sku in reply.json()["detail"]


async def test_a_withdrawn_plan_is_refused_by_name(shop: Shop) -> None:
    sku = await a_plan(shop.db, is_on_sale=False)
    reply = await shop.place(a_wish(sku))
    assert reply.problem == (422, "validation-failed")
    assert sku in reply.json()["detail"]


async def test_a_plan_without_the_providers_code_is_refused_by_name(shop: Shop) -> None:
    sku = await a_plan(shop.db, code=None)
    reply = await shop.place(a_wish(sku))
    assert reply.problem == (422, "plan-not-mapped")
    assert sku in reply.json()["detail"]


async def test_another_providers_code_does_not_count(shop: Shop) -> None:
    reply = await shop.place(a_wish(await a_plan(shop.db, provider="ANOTHER")))
    assert reply.problem == (422, "plan-not-mapped")


async def test_local_needs_no_code_and_the_snapshot_has_none(local_shop: Shop) -> None:
    reply = await local_shop.place(a_wish(await a_plan(local_shop.db, code=None)))
    assert reply.status == 201
    snapshot = reply.json()["plan_snapshot"]
    assert (snapshot["provider"], snapshot["external_id"]) == (None, None)
    assert reply.json()["esim"]["provider"] == "LOCAL"


# --- bodies that can't be

_CUSTOMER = {"email": "ana@example.com", "name": "Ana"}
_PAYMENT = {"status": "paid", "reference": "pay_42"}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"payment": _PAYMENT | {"status": "pending"}}, "/payment/status"),
        ({"payment": _PAYMENT | {"status": "PAID"}}, "/payment/status"),
        ({"payment": _PAYMENT | {"status": True}}, "/payment/status"),
        ({"payment": {"reference": "pay_42"}}, "/payment/status"),
        ({"payment": {"status": "paid"}}, "/payment/reference"),
        ({"payment": _PAYMENT | {"reference": ""}}, "/payment/reference"),
        ({"payment": _PAYMENT | {"reference": "x" * 256}}, "/payment/reference"),
        ({"payment": _PAYMENT | {"reference": "a\nb"}}, "/payment/reference"),
        ({"payment": _PAYMENT | {"reference": 42}}, "/payment/reference"),
        ({"payment": _PAYMENT | {"amount": 12.9}}, "/payment/amount"),
        ({"payment": None}, "/payment"),
        ({"payment": "paid"}, "/payment"),
        ({"customer": _CUSTOMER | {"email": "ana"}}, "/customer/email"),
        ({"customer": _CUSTOMER | {"email": "ana@@example.com"}}, "/customer/email"),
        ({"customer": _CUSTOMER | {"email": "Ana <ana@example.com>"}}, "/customer/email"),
        ({"customer": _CUSTOMER | {"email": "ana@example.com\r\nBcc: all@example.com"}}, "/customer/email"),
        ({"customer": _CUSTOMER | {"email": "a" * 255 + "@example.com"}}, "/customer/email"),
        ({"customer": _CUSTOMER | {"email": None}}, "/customer/email"),
        ({"customer": _CUSTOMER | {"name": ""}}, "/customer/name"),
        ({"customer": _CUSTOMER | {"name": "  "}}, "/customer/name"),
        ({"customer": _CUSTOMER | {"name": "Ana\rTraveller"}}, "/customer/name"),
        ({"customer": _CUSTOMER | {"name": "Ana\nBcc: all@example.com"}}, "/customer/name"),
        ({"customer": _CUSTOMER | {"name": "Ana\0Traveller"}}, "/customer/name"),
        ({"customer": _CUSTOMER | {"name": "Ana\u2028Traveller"}}, "/customer/name"),
        ({"customer": _CUSTOMER | {"name": "A" * 201}}, "/customer/name"),
        ({"customer": _CUSTOMER | {"name": ["Ana"]}}, "/customer/name"),
        ({"customer": [_CUSTOMER]}, "/customer"),
        ({"sku": ""}, "/sku"),
        ({"sku": "x" * 65}, "/sku"),
        ({"sku": "es 5gb"}, "/sku"),
        ({"sku": "es\0"}, "/sku"),
        ({"sku": 5}, "/sku"),
        ({"sku": None}, "/sku"),
        ({"amount_minor": 1290}, "/amount_minor"),
        ({"amount": 12.9, "currency": "EUR"}, "/amount"),
        ({"price": 1e400}, None),  # Python writes Infinity
        ({"status": "paid"}, "/status"),
        ({"id": 1}, "/id"),
        ({"placed_by_key_id": 1}, "/placed_by_key_id"),
        ({"a/b~c": 1}, "/a~1b~0c"),
    ],
    ids=ascii,
)
async def test_a_body_that_cannot_be_is_refused_and_the_mistake_named(
    shop: Shop, change: dict[str, object], pointer: str | None
) -> None:
    reply = await shop.place(a_wish(await a_plan(shop.db)) | change)
    assert reply.problem == (422, "validation-failed")
    assert pointer is None or pointer in reply.pointers


async def test_a_refused_value_is_not_repeated(shop: Shop) -> None:
    customer = {"email": "not-an-address-of-ana", "name": "Ana\nSecret"}
    reply = await shop.place(a_wish("es", customer=customer, payment={"status": "card 4111", "reference": "\0secret"}))
    assert reply.status == 422
    for secret in (b"of-ana", b"Secret", b"4111", b"secret"):
        assert secret not in reply.body


async def test_a_refused_order_leaves_nothing_behind(shop: Shop) -> None:
    async def counted() -> list[int | None]:
        async with shop.db.read() as connection:
            return [await connection.scalar(select(func.count()).select_from(table)) for table in tables]

    tables = (Order, EsimProfile, IdempotencyKey)
    before = await counted()
    await shop.place(a_wish(await a_plan(shop.db, code=None)))
    await shop.place(a_wish(await a_plan(shop.db), customer={}))
    assert await counted() == before
