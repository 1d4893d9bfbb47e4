"""The recovery sweep: attempts whose process died before the answer was stored become `unknown`. It never sends anything."""

import structlog
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app import failpoints
from app.audit import SYSTEM, Tag, record
from app.db import Database
from app.failpoints import Point
from app.models import EsimProfile, ProvisioningAttempt
from app.services.esim_providers import SupplierOutcomeUnknown
from app.services.esims.intent import reference_of
from app.services.webhooks.events import EsimOutcomeUnknown
from app.services.webhooks.tell import tell

SWEEP_INTERVAL_S = 5
_BATCH = 500

log = structlog.get_logger()

_OVERDUE = (
    select(EsimProfile.id, EsimProfile.order_id, ProvisioningAttempt.id.label("attempt_id"))
    .join(ProvisioningAttempt, ProvisioningAttempt.profile_id == EsimProfile.id)
    .where(ProvisioningAttempt.outcome.is_(None), ProvisioningAttempt.deadline_at < func.now())
    .order_by(EsimProfile.id)
    .limit(_BATCH)
    # Profiles first, as everywhere; those that somebody else settles at this moment are not ours.
    .with_for_update(of=EsimProfile, skip_locked=True)
)


async def sweep(db: Database) -> int:
    """
    Settles overdue attempts as unknown, by database time. Any number of processes may do it at once.

    Returns:
        How many.
    """
    async with db.begin() as connection:
        overdue = (await connection.execute(_OVERDUE)).all()
        for row in overdue:
            failpoints.reached(Point.SWEEP_LOCKED, reference_of(row.order_id))
        swept = [row for row in overdue if await _give_up(connection, row.id, row.attempt_id)]
        for row in swept:
            failpoints.reached(Point.SWEEP_WRITTEN, reference_of(row.order_id))
    for row in swept:
        log.error(
            "esims.outcome_unknown",
            order_id=row.order_id,
            attempt_id=row.attempt_id,
            error="no answer was stored in time",
        )
    return len(swept)


async def _give_up(connection: AsyncConnection, profile_id: int, attempt_id: int) -> bool:
    closed = await connection.execute(
        update(ProvisioningAttempt)
        .where(ProvisioningAttempt.id == attempt_id, ProvisioningAttempt.outcome.is_(None))
        .values(
            outcome="unknown",
            problem=SupplierOutcomeUnknown.code,
            closed_at=func.now(),
            error="no answer was stored before the attempt's deadline: the process that made it has died or was asleep",
        )
    )
    if closed.rowcount == 0:
        return False  # its answer came between our look and our lock
    became = (
        await connection.execute(
            update(EsimProfile)
            .where(EsimProfile.id == profile_id, EsimProfile.status == "provisioning")
            .values(status="unknown", updated_at=text("now()"))
            .returning(EsimProfile.order_id, EsimProfile.is_live)
        )
    ).one_or_none()
    if became is not None:  # else it was a replay that nobody has heard the end of: the question is the old one
        await tell(connection, EsimOutcomeUnknown(order_id=became.order_id, esim_id=profile_id, is_live=became.is_live))
    await record(connection, SYSTEM, Tag.ESIM_OUTCOME_UNKNOWN, "esim_profiles", profile_id, attempt_id=attempt_id)
    return True
