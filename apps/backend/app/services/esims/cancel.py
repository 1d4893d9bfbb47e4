"""Cancelling an order for which nothing was issued."""

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Tag, record
from app.errors import NotFound
from app.models import EsimProfile, Order

_LOCK = (
    select(Order.status.label("order_status"), EsimProfile.id.label("profile_id"), EsimProfile.status)
    .join(EsimProfile, EsimProfile.order_id == Order.id)
    .where(Order.id == bindparam("of_order"))
    .with_for_update(of=[Order, EsimProfile])
)
_ORDER = update(Order).where(Order.id == bindparam("of_order")).values(status="cancelled")
_PROFILE = (
    update(EsimProfile)
    .where(EsimProfile.order_id == bindparam("of_order"))
    .values(status="cancelled", updated_at=func.now())
)


async def cancel_unissued(connection: AsyncConnection, order_id: int, *, actor: str, reason: str) -> bool:
    """
    Returns:
        False, and nothing is done, where an eSIM was or may have been issued, or is being ordered.

    Raises:
        NotFound: there is no such order.
    """
    row = (await connection.execute(_LOCK, {"of_order": order_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no order {order_id}")
    if row.order_status != "paid" or row.status not in {"pending", "refused"}:
        return False
    await connection.execute(_ORDER, {"of_order": order_id})
    await connection.execute(_PROFILE, {"of_order": order_id})
    await record(connection, actor, Tag.ORDER_CANCELLED, "orders", order_id, reason=reason)
    return True
