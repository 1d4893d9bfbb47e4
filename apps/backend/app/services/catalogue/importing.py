"""Importing a catalogue file: all of it or nothing, one import at a time. Orders keep the plan as they were sold."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Text,
    any_,
    bindparam,
    column,
    delete,
    func,
    insert,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

from app.audit import Tag, record
from app.models import Plan, PlanCode
from app.services.catalogue.diff import Diff, compare
from app.services.catalogue.rows import PLAN_COLUMNS, CatalogueFile, CatalogueRow
from app.services.catalogue.stored import stored_plans


class CatalogueChanged(ValueError):
    """Somebody else imported between the look and the import; nothing was done."""

    def __init__(self) -> None:
        super().__init__("the catalogue was changed by somebody else meanwhile; nothing was imported: run this again")


def _given(**types: type[TypeEngine[Any]]) -> TableValuedAlias:
    """Rows that come as one array a column: a statement for any number of rows, in one round trip."""
    arrays = [bindparam(f"all_{name}", type_=ARRAY(type_)) for name, type_ in types.items()]
    columns = [column(name, type_()) for name, type_ in types.items()]
    return func.unnest(*arrays).table_valued(*columns).render_derived("given")


_PLAN = _given(
    sku=Text,
    name=Text,
    country_iso2=Text,
    data_mb=BigInteger,
    validity_days=BigInteger,
    price_minor=BigInteger,
    currency=Text,
)
_CODE = _given(sku=Text, provider=Text, external_id=Text, cost_minor=BigInteger)

# Conflicts with itself and with nothing that orders do: a foreign key's check needs less (PostgreSQL, table 13.2).
_LOCK = text("LOCK TABLE plans, plan_codes IN SHARE ROW EXCLUSIVE MODE")
_MOST_COUNTRIES = 1000
"""More than ISO 3166-1 has; a slice ends where its array does."""

# PostgreSQL unfolds no arrays of different lengths; so the countries come as the file writes them.
_countries = func.string_to_array(_PLAN.c.country_iso2, " ", type_=ARRAY(Text))
_PLAN_VALUES = {name: _PLAN.c[name] for name in PLAN_COLUMNS} | {
    "country_iso2": _countries[1],
    "other_countries": _countries[2:_MOST_COUNTRIES],
}
_ADD = insert(Plan).from_select(list(_PLAN_VALUES), select(*_PLAN_VALUES.values()).select_from(_PLAN))
_CHANGE = (
    update(Plan)
    .where(Plan.sku == _PLAN.c.sku)
    .values({name: value for name, value in _PLAN_VALUES.items() if name != "sku"})
    .values(is_on_sale=True, updated_at=func.now())
)
_WITHDRAW = (
    update(Plan)
    .where(Plan.sku == any_(bindparam("skus", type_=ARRAY(Text))))
    .values(is_on_sale=False, updated_at=func.now())
)
_put_code = upsert(PlanCode).from_select(
    ["plan_id", "provider", "external_id", "cost_minor"],
    # WHERE true: else ON CONFLICT would read as the join's condition to PostgreSQL's parser
    select(Plan.id, _CODE.c.provider, _CODE.c.external_id, _CODE.c.cost_minor)
    .join_from(_CODE, Plan, Plan.sku == _CODE.c.sku)
    .where(true()),
)
_PUT_CODES = _put_code.on_conflict_do_update(
    index_elements=[PlanCode.plan_id, PlanCode.provider],
    set_={
        "external_id": _put_code.excluded.external_id,
        "cost_minor": _put_code.excluded.cost_minor,
        "updated_at": func.now(),
    },
)
_GONE = _given(sku=Text, provider=Text)
_DROP_CODES = delete(PlanCode).where(
    PlanCode.plan_id == Plan.id, Plan.sku == _GONE.c.sku, PlanCode.provider == _GONE.c.provider
)


async def plan_import(connection: AsyncConnection, file: CatalogueFile, *, replacing: bool) -> Diff:
    """What `apply_import` would do now. Changes and locks nothing."""
    return compare(file, await stored_plans(connection), replacing=replacing)


async def apply_import(
    connection: AsyncConnection,
    file: CatalogueFile,
    *,
    replacing: bool,
    actor: str,
    file_name: str,
    expected: Diff | None = None,
) -> Diff:
    """
    Imports the file inside the caller's transaction; another import waits until that ends.

    Args:
        replacing: take off sale what the file doesn't mention. Nothing is ever deleted but plan codes.
        file_name: for the audit trail.
        expected: what somebody was shown and said yes to; None where nobody was asked.

    Returns:
        What was done. Where there was nothing to do, nothing is written, on the audit trail neither.

    Raises:
        CatalogueChanged: it would do something else than `expected`.
    """
    await connection.execute(_LOCK)
    diff = await plan_import(connection, file, replacing=replacing)
    if expected is not None and diff != expected:
        raise CatalogueChanged
    if diff.is_empty:
        return diff
    await _write_plans(connection, diff)
    await _write_codes(connection, diff)
    await record(connection, actor, Tag.CATALOGUE_IMPORTED, "plans", None, file_name=file_name, **diff.counts())
    return diff


async def _write_plans(connection: AsyncConnection, diff: Diff) -> None:
    if diff.added:
        await connection.execute(_ADD, _plan_arrays(diff.added))
    if changed := [change.row for change in diff.changed if change.changes_plan]:
        await connection.execute(_CHANGE, _plan_arrays(changed))
    if diff.withdrawn:
        await connection.execute(_WITHDRAW, {"skus": list(diff.withdrawn)})


async def _write_codes(connection: AsyncConnection, diff: Diff) -> None:
    put = [(row.sku, provider, code) for row in diff.added for provider, code in row.codes.items()]
    gone = []
    for change in diff.changed:
        before, after = change.before.codes, change.row.codes
        put += [(change.row.sku, provider, code) for provider, code in after.items() if before.get(provider) != code]
        gone += [(change.row.sku, provider) for provider in before if provider not in after]
    if put:
        await connection.execute(
            _PUT_CODES,
            {
                "all_sku": [sku for sku, _, _ in put],
                "all_provider": [provider for _, provider, _ in put],
                "all_external_id": [code.external_id for _, _, code in put],
                "all_cost_minor": [code.cost_minor for _, _, code in put],
            },
        )
    if gone:
        values = {"all_sku": [sku for sku, _ in gone], "all_provider": [provider for _, provider in gone]}
        await connection.execute(_DROP_CODES, values)


def _plan_arrays(rows: Sequence[CatalogueRow]) -> dict[str, list[Any]]:
    return {f"all_{name}": [row.cell(name) for row in rows] for name in PLAN_COLUMNS}
