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
            await a_plan(shop.db, sku="a!$&'()*+,;=:@-._~z", country_iso2="FR", other_countries=["MC"])
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
        "countries": ["ES"],
        "data_mb": 5120,
        "validity_days": 30,
        "price_minor": 1290,
        "currency": "EUR",
        "price_formatted": "€12.90",
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


async def test_a_plan_for_several_countries_is_found_by_each_and_shows_all(travel: Shop) -> None:
    (plan,) = (await travel.get("/api/plans?country=mc")).json()["items"]
    assert (plan["country_iso2"], plan["countries"]) == ("FR", ["FR", "MC"])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("min_data_mb=5120", 3),
        ("max_data_mb=1024", 1),
        ("min_validity_days=31", 0),
        ("max_validity_days=30", 4),
        ("currency=jpy", 1),
        ("currency=EUR&min_price_minor=1291", 0),
        ("currency=JPY&max_price_minor=900", 1),
        ("is_orderable=true", 3),
        ("is_orderable=false", 1),
        ("country=ES&is_orderable=true&min_data_mb=1", 1),
    ],
)
async def test_plans_are_chosen_by_what_is_wanted(travel: Shop, query: str, found: int) -> None:
    assert len((await travel.get(f"/api/plans?{query}")).json()["items"]) == found


@pytest.mark.parametrize(
    "query",
    ["min_data_mb=-1", "max_data_mb=x", "min_validity_days=1e9", "currency=XAU", "currency=E", "is_orderable=1"],
)
async def test_what_cannot_be_wanted_is_refused(travel: Shop, query: str) -> None:
    reply = await travel.get(f"/api/plans?{query}")
    assert reply.problem == (422, "validation-failed")
    assert reply.pointers == [f"query: {query.partition('=')[0]}"]


@pytest.mark.parametrize("bound", ["min_price_minor", "max_price_minor"])
async def test_prices_in_several_currencies_are_not_compared(travel: Shop, bound: str) -> None:
    reply = await travel.get(f"/api/plans?{bound}=1")
    assert reply.problem == (422, "validation-failed")
    assert "need `currency`" in reply.json()["detail"]


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


async def test_pages_of_what_is_wanted_hold_nothing_else(travel: Shop) -> None:
    first = (await travel.get("/api/plans?limit=1&country=ES")).json()
    second = (await travel.get(f"/api/plans?limit=1&country=ES&cursor={first['next_cursor']}")).json()
    assert (skus(first), skus(second), second["next_cursor"]) == (["es-5gb-30d"], ["es-1gb"], None)


# --- Prices as people write them


@pytest.mark.parametrize(
    ("query", "header", "written", "language"),
    [
        ("", None, "€12.90", "en"),
        ("", "es-ES,es;q=0.9,en;q=0.8", "12,90\xa0€", "es-ES"),
        ("", "tlh, *;q=0.1", "€12.90", "en"),
        ("", "\xff", "€12.90", "en"),
        ("?locale=de-CH", None, "EUR\xa012.90", "de-CH"),
        ("?locale=de-CH", "es", "EUR\xa012.90", "de-CH"),
        ("?locale=es-XX", None, "12,90\xa0€", "es"),
    ],
)
async def test_a_price_is_written_as_its_reader_writes_prices(
    travel: Shop, query: str, header: str | None, written: str, language: str
) -> None:
    headers = {"Accept-Language": header} if header is not None else {}
    one = await travel.get(f"/api/plans/es-5gb-30d{query}", headers=headers)
    all_plans = await travel.get(f"/api/plans{query}", headers=headers)
    assert one.json()["price_formatted"] == all_plans.json()["items"][0]["price_formatted"] == written
    assert one.headers["Content-Language"] == all_plans.headers["Content-Language"] == language


@pytest.mark.parametrize("path", ["/api/plans", "/api/plans/es-5gb-30d"])
@pytest.mark.parametrize("locale", ["xx", "tlh", "e", "spanish", "es--ES", "es;q=1", "", "es-" + "a" * 40])
async def test_a_locale_that_is_none_is_refused(travel: Shop, path: str, locale: str) -> None:
    reply = await travel.get(f"{path}?locale={locale}")
    assert reply.problem == (422, "validation-failed")
    assert reply.pointers == ["query: locale"]


async def test_caches_are_told_when_the_browser_made_the_difference(travel: Shop) -> None:
    assert (await travel.get("/api/plans")).headers["Vary"] == "Accept-Language"
    assert "Vary" not in (await travel.get("/api/plans?locale=es")).headers


async def test_each_way_of_writing_has_its_own_etag(travel: Shop) -> None:
    english = (await travel.get("/api/plans")).headers["ETag"]
    reply = await travel.get("/api/plans", headers={"If-None-Match": english, "Accept-Language": "es"})
    assert (reply.status, reply.headers["ETag"] == english) == (200, False)


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
