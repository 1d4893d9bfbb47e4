"""The whole catalogue as it is stored, in one statement, so that it is of one moment; and as a file."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import Plan, PlanCode
from app.services.catalogue.csv_file import write_catalogue
from app.services.catalogue.diff import StoredPlan
from app.services.catalogue.rows import CatalogueRow, ProviderCode

_COLUMNS: Sequence[Any] = (
    Plan.sku,
    Plan.name,
    Plan.country_iso2,
    Plan.other_countries,
    Plan.data_mb,
    Plan.validity_days,
    Plan.price_minor,
    Plan.currency,
    Plan.is_on_sale,
    PlanCode.provider,
    PlanCode.external_id,
    PlanCode.cost_minor,
)
_ALL = (
    select(*_COLUMNS).outerjoin_from(Plan, PlanCode, PlanCode.plan_id == Plan.id).order_by(Plan.id, PlanCode.provider)
)


async def stored_plans(connection: AsyncConnection) -> dict[str, StoredPlan]:
    """Every plan, on sale or not, with all its codes; by SKU, in the order in which they were first imported."""
    plans: dict[str, StoredPlan] = {}
    codes: dict[str, ProviderCode] = {}
    for row in await connection.execute(_ALL):
        if row.sku not in plans:
            codes = {}
            plan = CatalogueRow(
                sku=row.sku,
                name=row.name,
                countries=(row.country_iso2, *row.other_countries),
                data_mb=row.data_mb,
                validity_days=row.validity_days,
                price_minor=row.price_minor,
                currency=row.currency,
                codes=codes,
            )
            plans[row.sku] = StoredPlan(plan, row.is_on_sale)
        if row.provider is not None:
            codes[row.provider] = ProviderCode(row.external_id, row.cost_minor)
    return plans


async def export_catalogue(connection: AsyncConnection, providers: Sequence[str]) -> str:
    """
    The plans on sale as a file, which imported again changes nothing, with `--replace` or without.

    Args:
        providers: whose codes and costs to state.
    """
    plans = await stored_plans(connection)
    return write_catalogue([plan.row for plan in plans.values() if plan.is_on_sale], providers)
