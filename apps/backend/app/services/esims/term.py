"""A plan's days: they are counted from its first use, and a day before the last one is over the traveller hears of it."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import DateTime, Integer, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import Database
from app.models import CrossedThreshold, EsimProfile, Order
from app.services.esims.thresholds import EXPIRES_SOON, note_thresholds

_BATCH: Final = 100
_NOTICE: Final = timedelta(hours=24)

_FIRST_USE = func.least(EsimProfile.plan_active_at, bindparam("active_at", type_=DateTime(timezone=True)))
_VALIDITY_DAYS = (
    select(Order.plan_snapshot["validity_days"].astext.cast(Integer))
    .where(Order.id == EsimProfile.order_id)
    .scalar_subquery()
)
_BEGIN = (
    update(EsimProfile)
    .where(EsimProfile.id == bindparam("esim_id"))
    .values(plan_active_at=_FIRST_USE, plan_expires_at=_FIRST_USE + _VALIDITY_DAYS * timedelta(days=1))
)

_EXPIRING = (
    select(EsimProfile.id)
    .where(
        EsimProfile.plan_state == "active",
        EsimProfile.plan_expires_at > func.now(),
        EsimProfile.plan_expires_at <= func.now() + _NOTICE,
        # Of a plan for one day that is no news.
        EsimProfile.plan_expires_at - EsimProfile.plan_active_at > _NOTICE,
        # A value, not NOT EXISTS: that might be a join with all thresholds there ever were, to look at a day's plans.
        select(CrossedThreshold.threshold)
        .where(CrossedThreshold.profile_id == EsimProfile.id, CrossedThreshold.threshold == EXPIRES_SOON)
        .scalar_subquery()
        .is_(None),
    )
    .order_by(EsimProfile.plan_expires_at)
    .limit(_BATCH)
    # Locked by another: it is looking at the same ones, or something happens to the plan at this moment. Next time, then.
    .with_for_update(skip_locked=True, key_share=True)
)


async def note_plan_active(connection: AsyncConnection, esim_id: int, active_at: datetime) -> None:
    """
    The plan is in use since then: its days are counted in 24 hours from there. Of several such times the earliest holds.

    Args:
        active_at: by the provider's clock.
    """
    await connection.execute(_BEGIN, {"esim_id": esim_id, "active_at": active_at})


async def note_expiring(db: Database) -> int:
    """
    Has those mailed whose plan ends within 24 hours. Any number of processes may do so at the same time.

    Returns:
        How many eSIMs that were.
    """
    count = 0
    while True:
        async with db.begin() as connection:
            esim_ids = list(await connection.scalars(_EXPIRING))
            for esim_id in esim_ids:
                await note_thresholds(connection, esim_id, (EXPIRES_SOON,))
        count += len(esim_ids)
        if len(esim_ids) < _BATCH:
            return count
