"""Reading plans, for browsing and for placing an order."""

import pytest
from sqlalchemy import update

from app.db import Database
from app.models import Plan
from app.services.catalogue.plans import list_plans, plan_by_sku, plan_for_sale
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


async def test_plans_are_listed_by_country(db: Database) -> None:
    await a_plan(db, sku="es", country_iso2="ES")
    await a_plan(db, sku="fr", country_iso2="FR")
    async with db.read() as connection:
        assert [plan.sku for plan in await list_plans(connection, None, country_iso2="FR")] == ["fr"]


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
