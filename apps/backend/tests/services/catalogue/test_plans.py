"""Reading plans, for browsing and for placing an order."""

import pytest
from sqlalchemy import update

from app.db import Database
from app.models import Plan
from app.services.catalogue.plans import PlanFilter, list_plans, plan_by_sku, plan_for_sale
from tests.builders import a_plan


async def withdraw(db: Database, sku: str) -> None:
    async with db.begin() as connection:
        await connection.execute(update(Plan).where(Plan.sku == sku).values(is_on_sale=False))


async def test_a_plan_for_sale_comes_with_the_providers_code_and_all_that_a_snapshot_holds(db: Database) -> None:
    sku = await a_plan(db, sku="es", code="CY-1", price_minor=1290)
    async with db.read() as connection:
        sale = await plan_for_sale(connection, sku, "CONNECTED_YOU")
    assert sale is not None
    assert sale.external_id == "CY-1"
    assert sale.plan.plan_snapshot("CONNECTED_YOU", "CY-1") == {
        "sku": "es",
        "name": "Spain 5GB",
        "country_iso2": "ES",
        "countries": ["ES"],
        "data_mb": 5120,
        "validity_days": 30,
        "price_minor": 1290,
        "currency": "EUR",
        "provider": "CONNECTED_YOU",
        "external_id": "CY-1",
    }


@pytest.mark.parametrize(("code", "provider"), [(None, "CONNECTED_YOU"), ("CY-1", "OTHER"), ("CY-1", None)])
async def test_another_providers_code_is_not_given(db: Database, code: str | None, provider: str | None) -> None:
    sku = await a_plan(db, code=code)
    async with db.read() as connection:
        sale = await plan_for_sale(connection, sku, provider)
    assert sale is not None
    assert sale.external_id is None


async def test_a_withdrawn_plan_is_not_for_sale(db: Database) -> None:
    sku = await a_plan(db)
    await withdraw(db, sku)
    async with db.read() as connection:
        assert await plan_for_sale(connection, sku, None) is None
        assert await plan_by_sku(connection, sku, None) is None
        assert await list_plans(connection, None) == []


@pytest.mark.parametrize("sku", ["", "nothing", "a\0b", "\udcff", "x" * 1_000_000], ids=ascii)
async def test_what_is_no_sku_of_a_plan_is_simply_not_there(db: Database, sku: str) -> None:
    async with db.read() as connection:
        assert await plan_by_sku(connection, sku, "CONNECTED_YOU") is None


@pytest.mark.parametrize(
    ("code", "provider", "is_orderable"),
    [("CY-1", "CONNECTED_YOU", True), (None, "CONNECTED_YOU", False), (None, None, True)],
)
async def test_a_plan_without_the_code_that_is_needed_cannot_be_ordered(
    db: Database, code: str | None, provider: str | None, is_orderable: bool
) -> None:
    sku = await a_plan(db, code=code)
    async with db.read() as connection:
        plan = await plan_by_sku(connection, sku, provider)
    assert plan is not None
    assert plan.is_orderable is is_orderable


@pytest.mark.parametrize(
    ("wanted", "skus"),
    [
        (PlanFilter(), "es fr jp"),
        (PlanFilter(country_iso2="ES"), "es"),
        (PlanFilter(country_iso2="FR"), "es fr"),
        (PlanFilter(country_iso2="IT"), ""),
        (PlanFilter(min_data_mb=5120), "es jp"),
        (PlanFilter(max_data_mb=5120), "es fr"),
        (PlanFilter(min_data_mb=5121, max_data_mb=5121), ""),
        (PlanFilter(min_validity_days=15), "es fr"),
        (PlanFilter(max_validity_days=15), "fr jp"),
        (PlanFilter(currency="EUR"), "es fr"),
        (PlanFilter(currency="EUR", min_price_minor=1290), "es"),
        (PlanFilter(currency="EUR", max_price_minor=1290), "es fr"),
        (PlanFilter(is_orderable=True), "es jp"),
        (PlanFilter(is_orderable=False), "fr"),
        (PlanFilter(country_iso2="FR", is_orderable=True, max_validity_days=30), "es"),
    ],
    ids=repr,
)
async def test_plans_are_chosen_by_what_is_wanted(db: Database, wanted: PlanFilter, skus: str) -> None:
    await a_plan(db, sku="es", other_countries=["FR", "PT"])
    await a_plan(db, sku="fr", country_iso2="FR", code=None, data_mb=1024, validity_days=15, price_minor=590)
    await a_plan(db, sku="jp", country_iso2="JP", data_mb=10240, validity_days=7, price_minor=1900, currency="JPY")
    async with db.read() as connection:
        found = await list_plans(connection, "CONNECTED_YOU", wanted)
    assert [plan.sku for plan in found] == skus.split()


async def test_where_no_code_is_needed_all_plans_can_be_ordered(db: Database) -> None:
    await a_plan(db, code=None)
    async with db.read() as connection:
        assert len(await list_plans(connection, None, PlanFilter(is_orderable=True))) == 1
        assert len(await list_plans(connection, None, PlanFilter(is_orderable=False))) == 0


async def test_a_plan_for_a_region_is_shown_and_sold_with_all_its_countries(db: Database) -> None:
    sku = await a_plan(db, other_countries=["FR", "PT"])
    async with db.read() as connection:
        plan = await plan_by_sku(connection, sku, None)
        sale = await plan_for_sale(connection, sku, None)
    assert plan is not None
    assert (plan.country_iso2, plan.countries) == ("ES", ("ES", "FR", "PT"))
    assert sale is not None
    snapshot = sale.plan.plan_snapshot(None, None)
    assert (snapshot["country_iso2"], snapshot["countries"]) == ("ES", ["ES", "FR", "PT"])


async def test_pages_follow_each_other_without_gap_or_overlap(db: Database) -> None:
    for number in range(5):
        await a_plan(db, sku=f"p-{number}")
    found: list[str] = []
    last = 0
    async with db.read() as connection:
        while page := await list_plans(connection, None, after_id=last, limit=2):
            assert len(page) <= 2
            found += [plan.sku for plan in page]
            last = page[-1].id
    assert found == ["p-0", "p-1", "p-2", "p-3", "p-4"]
