"""GET /api/plans and /api/plans/{sku}."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from multidict import CIMultiDict
from sqlalchemy import update

from app.models import Plan
from tests.api.conftest import a_database, a_shop, settings_on
from tests.api.serving import Shop
from tests.builders import a_plan


@pytest.fixture(scope="module")
async def travel(postgres_url: str) -> AsyncIterator[Shop]:
    """Four plans on sale (one without ConnectedYou's code), one withdrawn."""
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url)) as shop:
            await a_plan(shop.db, sku="es-5gb-30d", name="Spain 5 GB")
            await a_plan(shop.db, sku="es-1gb", code=None)
            await a_plan(shop.db, sku="jp-1gb", country_iso2="JP", data_mb=1024, price_minor=900, currency="JPY")
            await a_plan(shop.db, sku="old", is_on_sale=False)
            await a_plan(shop.db, sku="a!$&'()*+,;=:@-._~z", country_iso2="FR")
            yield shop


def skus(page: dict[str, Any]) -> list[str]:
    return [plan["sku"] for plan in page["items"]]


async def test_anyone_sees_the_plans_on_sale(travel: Shop) -> None:
    reply = await travel.get("/api/plans", anonymous=True)
    assert reply.status == 200
    page = reply.json()
    assert skus(page) == ["es-5gb-30d", "es-1gb", "jp-1gb", "a!$&'()*+,;=:@-._~z"]
    assert page["next_cursor"] is None
    assert page["items"][0] == {
        "sku": "es-5gb-30d",
        "name": "Spain 5 GB",
        "country_iso2": "ES",
        "data_mb": 5120,
        "validity_days": 30,
        "price_minor": 1290,
        "currency": "EUR",
        "is_orderable": True,
    }


async def test_a_plan_without_the_providers_code_is_shown_as_not_orderable(travel: Shop) -> None:
    assert (await travel.get("/api/plans/es-1gb")).json()["is_orderable"] is False


async def test_at_local_every_plan_is_orderable(local_shop: Shop) -> None:
    sku = await a_plan(local_shop.db, code=None)
    assert (await local_shop.get(f"/api/plans/{sku}")).json()["is_orderable"] is True


@pytest.mark.parametrize(("country", "found"), [("ES", 2), ("es", 2), ("JP", 1), ("DE", 0)])
async def test_plans_are_chosen_by_country(travel: Shop, country: str, found: int) -> None:
    plans = (await travel.get(f"/api/plans?country={country}")).json()["items"]
    assert [plan["country_iso2"] for plan in plans] == [country.upper()] * found


@pytest.mark.parametrize(
    "country", ["XX", "EU", "ESP", "E", "", "724", "%00", "E%00", "Spain", "%C3%9F", "ES%0a", "+ES", "%27--", "%ff"]
)
async def test_what_is_no_country_is_refused(travel: Shop, country: str) -> None:
    reply = await travel.get(f"/api/plans?country={country}")
    assert reply.problem == (422, "validation-failed")
    assert reply.pointers == ["query: country"]


@pytest.mark.parametrize("sku", ["es-5gb-30d", "a!$&'()*+,;=:@-._~z"])
async def test_a_plan_is_looked_at_by_its_sku(travel: Shop, sku: str) -> None:
    reply = await travel.get(f"/api/plans/{sku}", anonymous=True)
    assert (reply.status, reply.json()["sku"]) == (200, sku)


@pytest.mark.parametrize(
    "sku", ["nothing", "old", "ES-5GB-30D", "..%2f", "es-5gb-30d/", "%2e%2e", "'%20OR%201=1", "%F0%9F%8C%8D", "x" * 65]
)
async def test_what_is_no_plan_on_sale_is_not_found(travel: Shop, sku: str) -> None:
    reply = await travel.get(f"/api/plans/{sku}")
    assert reply.problem in {(404, "not-found"), (422, "validation-failed")}


async def test_pages_go_through_all_plans(travel: Shop) -> None:
    first = (await travel.get("/api/plans?limit=3")).json()
    second = (await travel.get(f"/api/plans?limit=3&cursor={first['next_cursor']}")).json()
    assert skus(first) + skus(second) == skus((await travel.get("/api/plans")).json())
    assert second["next_cursor"] is None


# --- ETag (RFC 9110 sections 8.8.3 and 13.1.2)


@pytest.mark.parametrize("path", ["/api/plans", "/api/plans?country=ES", "/api/plans/es-5gb-30d"])
async def test_who_has_the_plans_already_gets_a_304(travel: Shop, path: str) -> None:
    etag = (await travel.get(path)).headers["ETag"]
    assert etag.startswith('"')
    for given in (etag, f"W/{etag}", f'"other", {etag}', f'W/"a,b" ,W/{etag}', "*"):
        reply = await travel.get(path, headers={"If-None-Match": given})
        assert (reply.status, reply.body) == (304, b"")
        assert reply.headers["ETag"] == etag


async def test_all_if_none_match_headers_count(travel: Shop) -> None:
    etag = (await travel.get("/api/plans")).headers["ETag"]
    headers = CIMultiDict([("If-None-Match", '"other"'), ("If-None-Match", etag)])
    assert (await travel.get("/api/plans", headers=headers)).status == 304


@pytest.mark.parametrize("given", ['"other"', "", "W/", "other", "\xff"])
async def test_who_has_something_else_gets_the_plans(travel: Shop, given: str) -> None:
    assert (await travel.get("/api/plans", headers={"If-None-Match": given})).status == 200


async def test_a_change_changes_the_etag(shop: Shop) -> None:
    sku = await a_plan(shop.db)
    etag = (await shop.get(f"/api/plans/{sku}")).headers["ETag"]
    async with shop.db.begin() as connection:
        await connection.execute(update(Plan).where(Plan.sku == sku).values(price_minor=1))
    reply = await shop.get(f"/api/plans/{sku}", headers={"If-None-Match": etag})
    assert (reply.status, reply.json()["price_minor"]) == (200, 1)
    assert reply.headers["ETag"] != etag


async def test_plans_may_be_kept_but_not_used_unasked(travel: Shop) -> None:
    assert (await travel.get("/api/plans")).headers["Cache-Control"] == "public, no-cache"
