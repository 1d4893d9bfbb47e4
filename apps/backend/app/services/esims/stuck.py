"""What waits for somebody: unknown outcomes, and paid orders that have no eSIM yet."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import EsimProfile, Order

UNFULFILLED_AFTER = "15 minutes"

_OPEN: Final = ("pending", "provisioning", "refused", "unknown")
"""Named, rather than by what they are not: an index has them, and what was cancelled long ago isn't read."""

_IS_UNKNOWN = EsimProfile.status == "unknown"


def is_unfulfilled() -> ColumnElement[bool]:
    """True for profiles of orders that were paid more than 15 minutes ago and are not provisioned."""
    return and_(
        EsimProfile.status.in_(_OPEN),
        EsimProfile.created_at < func.now() - text(f"interval '{UNFULFILLED_AFTER}'"),
        select(Order.id).where(Order.id == EsimProfile.order_id, Order.status == "paid").exists(),
    )


@dataclass(frozen=True, slots=True)
class Stuck:
    unknown: int
    unfulfilled: int


_COUNT = select(
    func.count().filter(_IS_UNKNOWN).label("unknown"), func.count().filter(is_unfulfilled()).label("unfulfilled")
).where(EsimProfile.status.in_(_OPEN))


async def count_stuck(connection: AsyncConnection) -> Stuck:
    row = (await connection.execute(_COUNT)).one()
    return Stuck(row.unknown, row.unfulfilled)
