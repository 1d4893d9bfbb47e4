"""Orders as everybody outside sees them, each with its eSIM."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import NotFound
from app.models import Order


@dataclass(frozen=True, slots=True)
class OrderView:
    id: int
    status: str
    plan_snapshot: dict[str, Any]
    amount_minor: int
    currency: str
    customer_email: str = field(repr=False)
    customer_name: str = field(repr=False)
    customer_locale: str | None
    created_at: datetime


_COLUMNS = (
    Order.id,
    Order.status,
    Order.plan_snapshot,
    Order.amount_minor,
    Order.currency,
    Order.customer_email,
    Order.customer_name,
    Order.customer_locale,
    Order.created_at,
)
_BY_ID = select(*_COLUMNS).where(Order.id == bindparam("id"))
_PAGE = select(*_COLUMNS).where(Order.id < bindparam("before_id")).order_by(Order.id.desc()).limit(bindparam("limit"))


def _view(row: Row[Any]) -> OrderView:
    return OrderView(**row._mapping)  # noqa: SLF001 - SQLAlchemy's documented accessor


async def order_by_id(connection: AsyncConnection, order_id: int) -> OrderView:
    """
    Raises:
        NotFound: there is none.
    """
    row = (await connection.execute(_BY_ID, {"id": order_id})).one_or_none()
    if row is None:
        raise NotFound
    return _view(row)


async def orders_before(connection: AsyncConnection, before_id: int, limit: int) -> list[OrderView]:
    """A page of orders, newest first, with ids below `before_id`."""
    return [_view(row) for row in await connection.execute(_PAGE, {"before_id": before_id, "limit": limit})]
