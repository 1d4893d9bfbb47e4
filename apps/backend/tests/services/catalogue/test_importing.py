"""Importing: what changes, what stays, and that it is all or nothing."""

import asyncio
import time
from dataclasses import replace

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from app.db import Database
from app.models import AuditEntry, Order, Plan, PlanCode
from app.services.catalogue.diff import FieldChange
from app.services.catalogue.importing import CatalogueChanged, apply_import, plan_import
from app.services.catalogue.rows import CatalogueFile, ProviderCode
from app.services.catalogue.stored import stored_plans
from tests.builders import an_order
from tests.services.catalogue.files import HEADER, a_file, a_line, applying, importing, many_lines, reading

WITHOUT_COST = HEADER.removesuffix(",connected_you_cost_minor")
WITHOUT_CODES = WITHOUT_COST.removesuffix(",connected_you_plan_code")


async def state(db: Database) -> dict[str, tuple[bool, dict[str, tuple[str, int | None]]]]:
    """SKU → whether it is on sale, and its codes with their costs."""
    async with db.read() as connection:
        plans = await stored_plans(connection)
    return {
        sku: (plan.is_on_sale, {name: (code.external_id, code.cost_minor) for name, code in plan.row.codes.items()})
        for sku, plan in plans.items()
    }


async def count(db: Database, table: type[Plan | PlanCode | AuditEntry]) -> int:
    async with db.read() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


async def test_new_plans_go_on_sale_with_their_codes(db: Database) -> None:
    diff = await importing(
        db, a_file(a_line(sku="a"), a_line(sku="b", connected_you_plan_code="", connected_you_cost_minor=""))
    )
    assert [row.sku for row in diff.added] == ["a", "b"]
    assert await state(db) == {"a": (True, {"CONNECTED_YOU": ("CY-ES-5GB", 640)}), "b": (True, {})}


async def test_a_change_is_told_field_by_field(db: Database) -> None:
    await importing(db, a_file(a_line(), a_line(sku="same")))
    diff = await importing(db, a_file(a_line(price_minor="1390", connected_you_plan_code="CY-2"), a_line(sku="same")))
    assert diff.counts() == {"added": 0, "changed": 1, "unchanged": 1, "withdrawn": 0, "kept": 0}
    assert diff.changed[0].fields == (
        FieldChange("price_minor", 1290, 1390),
        FieldChange("connected_you_plan_code", "CY-ES-5GB", "CY-2"),
    )
    assert (await state(db))["es-5gb"] == (True, {"CONNECTED_YOU": ("CY-2", 640)})


async def test_every_column_of_a_plan_can_change(db: Database) -> None:
    await importing(db, a_file(a_line()))
    changed = a_file(
        a_line(
            name="Japan 1 GB", country_iso2="JP", data_mb="1024", validity_days="7", price_minor="900", currency="JPY"
        )
    )
    await importing(db, changed)
    async with db.read() as connection:
        assert (await stored_plans(connection))["es-5gb"].row == reading(changed).rows[0]


async def test_a_plan_may_become_one_for_a_region_and_go_back(db: Database) -> None:
    for before, after in (("ES", "ES FR PT"), ("ES FR PT", "PT ES"), ("PT ES", "PT")):
        await importing(db, a_file(a_line(country_iso2=before)))
        diff = await importing(db, a_file(a_line(country_iso2=after)))
        assert diff.changed[0].fields == (FieldChange("country_iso2", before, after),)
        async with db.read() as connection:
            assert (await stored_plans(connection))["es-5gb"].row.countries == tuple(after.split())


async def test_the_other_countries_in_another_order_are_no_change(db: Database) -> None:
    await importing(db, a_file(a_line(country_iso2="ES FR PT")))
    assert (await importing(db, a_file(a_line(country_iso2="ES PT FR")))).is_empty


async def test_the_same_file_again_changes_nothing_and_leaves_no_trace(db: Database) -> None:
    await importing(db, a_file(a_line()))
    diff = await importing(db, a_file(a_line()), replacing=True)
    assert diff.is_empty
    assert await count(db, AuditEntry) == 1


async def test_what_is_not_mentioned_is_kept(db: Database) -> None:
    await importing(db, a_file(a_line(sku="old")))
    diff = await importing(db, a_file(a_line(sku="new")))
    assert diff.kept == 1
    assert (await state(db))["old"] == (True, {"CONNECTED_YOU": ("CY-ES-5GB", 640)})


async def test_replacing_takes_off_sale_what_is_not_mentioned_and_deletes_nothing(db: Database) -> None:
    await importing(db, a_file(a_line(sku="old")))
    diff = await importing(db, a_file(a_line(sku="new")), replacing=True)
    assert diff.withdrawn == ("old",)
    assert (await state(db))["old"] == (False, {"CONNECTED_YOU": ("CY-ES-5GB", 640)})


async def test_a_plan_that_is_mentioned_again_is_on_sale_again(db: Database) -> None:
    await importing(db, a_file(a_line(sku="old")))
    await importing(db, a_file(a_line(sku="new")), replacing=True)
    diff = await importing(db, a_file(a_line(sku="old")))
    assert diff.changed[0].fields == (FieldChange("is_on_sale", "no", "yes"),)
    assert (await state(db))["old"][0] is True


async def test_an_emptied_plan_code_takes_the_plan_from_that_provider_only(db: Database) -> None:
    await importing(db, a_file(a_line() + ",O-1", header=HEADER + ",other_plan_code"))
    diff = await importing(db, a_file(a_line(connected_you_plan_code="", connected_you_cost_minor="")))
    assert diff.changed[0].fields == (
        FieldChange("connected_you_plan_code", "CY-ES-5GB", None),
        FieldChange("connected_you_cost_minor", 640, None),
    )
    assert (await state(db))["es-5gb"] == (True, {"OTHER": ("O-1", None)})


async def test_a_file_without_a_providers_columns_leaves_its_codes_alone(db: Database) -> None:
    await importing(db, a_file(a_line()))
    diff = await importing(db, a_file("es-5gb,Spain 5 GB,ES,5120,30,1290,EUR", header=WITHOUT_CODES))
    assert diff.is_empty
    assert (await state(db))["es-5gb"] == (True, {"CONNECTED_YOU": ("CY-ES-5GB", 640)})


async def test_a_file_without_costs_leaves_them_alone(db: Database) -> None:
    await importing(db, a_file(a_line()))
    await importing(db, a_file("es-5gb,Spain 5 GB,ES,5120,30,1290,EUR,CY-2", header=WITHOUT_COST))
    assert (await state(db))["es-5gb"] == (True, {"CONNECTED_YOU": ("CY-2", 640)})


async def test_an_emptied_cost_is_forgotten(db: Database) -> None:
    await importing(db, a_file(a_line()))
    await importing(db, a_file(a_line(connected_you_cost_minor="")))
    assert (await state(db))["es-5gb"] == (True, {"CONNECTED_YOU": ("CY-ES-5GB", None)})


async def test_sold_orders_keep_the_plan_as_it_was(db: Database) -> None:
    order_id = await an_order(db)
    async with db.read() as connection:
        before = (await connection.execute(select(Order.plan_snapshot).where(Order.id == order_id))).scalar_one()
    await importing(db, a_file(a_line(sku=before["sku"], price_minor="1", connected_you_plan_code="X")))
    await importing(db, a_file(a_line(sku="another")), replacing=True)
    async with db.read() as connection:
        after = (await connection.execute(select(Order.plan_snapshot).where(Order.id == order_id))).scalar_one()
    assert after == before


async def test_an_import_is_on_the_audit_trail_with_its_counts(db: Database) -> None:
    await importing(db, a_file(a_line()))
    async with db.read() as connection:
        entry = (await connection.execute(select(AuditEntry.actor, AuditEntry.tag, AuditEntry.details))).one()
    counts = {"added": 1, "changed": 0, "unchanged": 0, "withdrawn": 0, "kept": 0}
    assert tuple(entry) == ("test", "catalogue.imported", {"file_name": "test.csv", **counts})


async def test_planning_changes_nothing(db: Database) -> None:
    async with db.read() as connection:
        diff = await plan_import(connection, reading(a_file(a_line())), replacing=True)
    assert len(diff.added) == 1
    assert await count(db, Plan) == 0


async def test_a_failure_half_way_leaves_nothing(db: Database) -> None:
    plan = reading(a_file(a_line())).rows[0]
    with pytest.raises(IntegrityError):  # plans are written first, then codes
        await applying(db, CatalogueFile((replace(plan, codes={"OTHER": ProviderCode("")}),), ("OTHER",), ()))
    assert (await count(db, Plan), await count(db, PlanCode), await count(db, AuditEntry)) == (0, 0, 0)


async def test_an_import_other_than_the_one_that_was_shown_is_refused(db: Database) -> None:
    data = a_file(a_line(price_minor="1390"))
    async with db.read() as connection:
        shown = await plan_import(connection, reading(data), replacing=False)
    await importing(db, a_file(a_line()))
    with pytest.raises(CatalogueChanged):
        await importing(db, data, expected=shown)


async def test_an_import_that_is_as_it_was_shown_is_done(db: Database) -> None:
    async with db.read() as connection:
        shown = await plan_import(connection, reading(a_file(a_line())), replacing=False)
    await importing(db, a_file(a_line()), expected=shown)
    assert await count(db, Plan) == 1


async def test_two_imports_at_once_leave_the_catalogue_of_one_of_them(db: Database) -> None:
    lefts = [a_line(sku=f"p-{n}", price_minor="100", connected_you_plan_code="LEFT") for n in range(500)]
    rights = [a_line(sku=f"p-{n}", price_minor="200", connected_you_plan_code="RIGHT") for n in range(250, 750)][::-1]
    diffs = await asyncio.gather(
        *(importing(db, a_file(*lines), replacing=True) for lines in (lefts, rights, lefts, rights))
    )
    assert sorted(len(diff.added) for diff in diffs) == [0, 0, 250, 500]
    async with db.read() as connection:
        plans = [plan.row for plan in (await stored_plans(connection)).values() if plan.is_on_sale]
    assert len(plans) == 500
    assert {(row.price_minor, row.codes["CONNECTED_YOU"].external_id) for row in plans} in (
        {(100, "LEFT")},
        {(200, "RIGHT")},
    )


async def test_orders_are_placed_while_an_import_runs(db: Database) -> None:
    await importing(db, a_file(a_line(sku="sold")))
    async with db.begin() as connection:
        file = reading(a_file(a_line(sku="sold", price_minor="1")))
        await apply_import(connection, file, replacing=False, actor="test", file_name="test.csv")
        async with db.begin() as seller:
            await seller.execute(text("SET LOCAL lock_timeout = '2s'"))
            # what the foreign key of an order does to its plan
            await seller.execute(select(Plan.id).where(Plan.sku == "sold").with_for_update(read=True, key_share=True))


async def test_fifty_thousand_plans_are_imported_in_seconds(db: Database) -> None:
    began = time.monotonic()
    await importing(db, a_file(*many_lines(50_000)))
    assert time.monotonic() - began < 30
    assert (await count(db, Plan), await count(db, PlanCode)) == (50_000, 50_000)
