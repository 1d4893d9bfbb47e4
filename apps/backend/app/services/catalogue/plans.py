"""Reading plans: for whoever browses them, and for placing an order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, Row, Select, Text, and_, any_, bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import Plan, PlanCode
from app.services.catalogue.fields import is_sku


@dataclass(frozen=True, slots=True)
class SellablePlan:
    """
    A plan on sale, as everybody may see it.

    `country_iso2`: ISO 3166-1 alpha-2. `price_minor`: minor units of `currency` (ISO 4217).
    """

    id: int
    sku: str
    name: str
    country_iso2: str
    countries: tuple[str, ...]
    """All that it is for, `country_iso2` first."""
    data_mb: int
    validity_days: int
    price_minor: int
    currency: str
    updated_at: datetime
    is_orderable: bool
    """False where the provider it was asked for needs a code and the catalogue has none: an order would be refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFilter:
    """Which plans somebody wants to see; None where it is all the same. Bounds are inclusive."""

    country_iso2: str | None = None
    """Upper case; also one of several that a plan is for."""
    min_data_mb: int | None = None
    max_data_mb: int | None = None
    min_validity_days: int | None = None
    max_validity_days: int | None = None
    currency: str | None = None
    """Upper case. Without it the bounds of the price compare yen with euros."""
    min_price_minor: int | None = None
    max_price_minor: int | None = None
    is_orderable: bool | None = None

    def given(self) -> dict[str, Any]:
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class PlanForSale:
    """A plan on sale, as placing an order needs it: `plan.plan_snapshot(provider, external_id)` is what the order keeps."""

    plan: Plan
    """Belongs to no session: its columns only."""
    external_id: str | None
    """The provider's code for the plan; None where it has none, or no provider was asked for."""


_external_id = (
    select(PlanCode.external_id)
    .where(PlanCode.plan_id == Plan.id, PlanCode.provider == bindparam("provider"))
    .scalar_subquery()
    .label("external_id")
)
_PLAN: Sequence[Any] = tuple(Plan.__table__.columns)
_COLUMNS: Sequence[Any] = (*_PLAN, _external_id)
_ON_SALE = select(*_COLUMNS).where(Plan.is_on_sale)
_BY_SKU = _ON_SALE.where(Plan.sku == bindparam("sku"))
_PAGE = _ON_SALE.where(Plan.id > bindparam("after_id")).order_by(Plan.id).limit(bindparam("limit", type_=BigInteger))

_country = bindparam("country_iso2", type_=Text)
_orderable = or_(
    bindparam("provider", type_=Text).is_(None),
    select(PlanCode.plan_id).where(PlanCode.plan_id == Plan.id, PlanCode.provider == bindparam("provider")).exists(),
)
_CONDITIONS: dict[str, ColumnElement[bool]] = {
    "country_iso2": or_(Plan.country_iso2 == _country, _country == any_(Plan.other_countries)),
    "min_data_mb": Plan.data_mb >= bindparam("min_data_mb"),
    "max_data_mb": Plan.data_mb <= bindparam("max_data_mb"),
    "min_validity_days": Plan.validity_days >= bindparam("min_validity_days"),
    "max_validity_days": Plan.validity_days <= bindparam("max_validity_days"),
    "currency": Plan.currency == bindparam("currency"),
    "min_price_minor": Plan.price_minor >= bindparam("min_price_minor"),
    "max_price_minor": Plan.price_minor <= bindparam("max_price_minor"),
    "is_orderable": _orderable == bindparam("is_orderable", type_=Boolean),
}


@cache
def _page_of(filters: frozenset[str]) -> Select[Any]:
    """The statement for these filters; to build one takes longer than to run it."""
    return _PAGE.where(and_(True, *(_CONDITIONS[name] for name in sorted(filters))))


async def plan_for_sale(connection: AsyncConnection, sku: str, provider: str | None) -> PlanForSale | None:
    """
    Args:
        provider: whose code an order needs, None where the provider needs none.

    Returns:
        None where no plan of that SKU is on sale. A plan on sale without a code has `external_id` None.
    """
    row = await _row_of(connection, sku, provider)
    if row is None:
        return None
    columns = {column.key: getattr(row, column.key) for column in _PLAN}
    return PlanForSale(Plan(**columns), row.external_id)


async def plan_by_sku(connection: AsyncConnection, sku: str, provider: str | None) -> SellablePlan | None:
    """None where no plan of that SKU is on sale. `provider`: as in `plan_for_sale`."""
    row = await _row_of(connection, sku, provider)
    return None if row is None else _sellable(row, provider)


async def list_plans(
    connection: AsyncConnection,
    provider: str | None,
    wanted: PlanFilter | None = None,
    *,
    after_id: int = 0,
    limit: int | None = None,
) -> list[SellablePlan]:
    """
    The plans on sale, in the order in which they were first imported.

    Args:
        provider: as in `plan_for_sale`.
        wanted: None for all.
        after_id: the last id of the page before.
        limit: how many at most, None for all.
    """
    given = wanted.given() if wanted else {}
    values = {"provider": provider, "after_id": after_id, "limit": limit, **given}
    result = await connection.execute(_page_of(frozenset(given)), values)
    return [_sellable(row, provider) for row in result]


async def _row_of(connection: AsyncConnection, sku: str, provider: str | None) -> Row[Any] | None:
    if not is_sku(sku):  # what can't be one isn't looked for: PostgreSQL's text takes no U+0000 and no lone surrogate
        return None
    return (await connection.execute(_BY_SKU, {"sku": sku, "provider": provider})).one_or_none()


def _sellable(row: Row[Any], provider: str | None) -> SellablePlan:
    return SellablePlan(
        id=row.id,
        sku=row.sku,
        name=row.name,
        country_iso2=row.country_iso2,
        countries=(row.country_iso2, *row.other_countries),
        data_mb=row.data_mb,
        validity_days=row.validity_days,
        price_minor=row.price_minor,
        currency=row.currency,
        updated_at=row.updated_at,
        is_orderable=provider is None or row.external_id is not None,
    )
