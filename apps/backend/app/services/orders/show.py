"""Orders as everybody outside sees them, each with its eSIM."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.direct import Direct
from app.errors import NotFound
from app.models import Order
from app.models.orders import OWNER


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


_COLUMNS = (  # in OrderView's order
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
IS_OWN = literal_column(OWNER) == bindparam("owner")
"""Of orders: those of one traveller, by the index that is made for it."""

_by_id = select(*_COLUMNS).where(Order.id == bindparam("id"))
_BY_ID = Direct(_by_id)
_OWN_BY_ID = Direct(_by_id.where(IS_OWN))
_PAGE = select(*_COLUMNS).where(Order.id < bindparam("before_id")).order_by(Order.id.desc()).limit(bindparam("limit"))
_OWN_PAGE = _PAGE.where(IS_OWN)


async def order_by_id(connection: AsyncConnection, order_id: int, *, owner: str | None = None) -> OrderView:
    """
    Args:
        owner: the traveller who must own it, in the form of `address_key`; None: anybody may.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    own = {} if owner is None else {"owner": owner}
    query = _BY_ID if owner is None else _OWN_BY_ID
    row = await query.one_or_none(connection, {"id": order_id} | own)
    if row is None:
        raise NotFound
    return OrderView(*row)


async def orders_before(
    connection: AsyncConnection, before_id: int, limit: int, *, owner: str | None = None
) -> list[OrderView]:
    """A page of orders (`owner` as in `order_by_id`), newest first, with ids below `before_id`."""
    own = {} if owner is None else {"owner": owner}
    query = _PAGE if owner is None else _OWN_PAGE
    return [OrderView(*row) for row in await connection.execute(query, {"before_id": before_id, "limit": limit} | own)]
