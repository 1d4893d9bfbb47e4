"""
Data that runs low, and a plan that ends: each eSIM's threshold is noted once, whoever noticed that it was crossed (the provider's
alert, a look at its numbers, the clock), and the news of it goes out once.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import CrossedThreshold, EsimProfile, OutgoingMail
from app.models.mail import NOTICES, THRESHOLDS
from app.queue import Job, enqueue
from app.services.webhooks.events import EsimUsageAlert
from app.services.webhooks.tell import tell

EXPIRES_SOON: Final = "expires_24h"

_PERCENTAGES: Final = (50, 80, 100)

_NOTE = (
    upsert(CrossedThreshold)
    .from_select(
        ["profile_id", "threshold"],
        select(bindparam("esim_id"), func.unnest(bindparam("thresholds", type_=ARRAY(Text)))),
    )
    .on_conflict_do_nothing()
    .returning(CrossedThreshold.threshold)
)
_WRITE = (
    upsert(OutgoingMail)
    .values(profile_id=bindparam("esim_id"), kind=bindparam("kind"))
    .on_conflict_do_nothing()
    .returning(OutgoingMail.id)
)
_ESIM = select(
    EsimProfile.order_id,
    EsimProfile.is_live,
    EsimProfile.data_used_mb.label("used_mb"),
    EsimProfile.data_total_mb.label("total_mb"),
    EsimProfile.usage_at.label("at"),
).where(EsimProfile.id == bindparam("esim_id"))


@dataclass(frozen=True, slots=True)
class Usage:
    """How much was used of how much data, and when (by the provider's clock)."""

    used_mb: float
    total_mb: float
    at: datetime


def crossed_by_usage(used_mb: float | None, total_mb: float | None) -> tuple[str, ...]:
    """
    The thresholds that so much of so much data has reached (>=), the lowest first: 80 of 100 MB are `data_50` and `data_80`. None
    where a number isn't known, or the plan has no data.
    """
    if used_mb is None or not total_mb:
        return ()
    return tuple(f"data_{percentage}" for percentage in _PERCENTAGES if used_mb * 100 >= percentage * total_mb)


def crossed_by_percentage(percentage: float | None) -> tuple[str, ...]:
    """As `crossed_by_usage`, by a provider's measured percentage (51.27)."""
    return crossed_by_usage(percentage, 100)


async def note_thresholds(
    connection: AsyncConnection, esim_id: int, crossed: Collection[str], *, usage: Usage | None = None
) -> tuple[str, ...]:
    """
    Notes what an eSIM has crossed, in the transaction that learned of it: the seller is told of each, and the traveller is mailed,
    of several at once only of the highest.

    Args:
        crossed: all that are crossed by now (`crossed_by_usage`, `crossed_by_percentage`, EXPIRES_SOON); some were noted before.
        usage: by which they were crossed; without, what the eSIM's row holds is told.

    Returns:
        Those that are new, the lowest first.
    """
    if not crossed:
        return ()
    rows = await connection.scalars(_NOTE, {"esim_id": esim_id, "thresholds": sorted(crossed)})
    new = set(rows)
    for kind in _worth_a_mail(new):
        mail_id = await connection.scalar(_WRITE, {"esim_id": esim_id, "kind": kind})
        if mail_id is not None:
            await enqueue(connection, Job.MAIL_WRITTEN, mail_id=mail_id)
    told = tuple(threshold for threshold in THRESHOLDS if threshold in new)
    await _tell_seller(connection, esim_id, told, usage)
    return told


async def _tell_seller(
    connection: AsyncConnection,
    esim_id: int,
    crossed: Collection[Any],  # of THRESHOLDS
    usage: Usage | None,
) -> None:
    if not crossed:
        return
    esim = (await connection.execute(_ESIM, {"esim_id": esim_id})).one()
    known = usage or esim
    for threshold in crossed:
        alert = EsimUsageAlert(
            order_id=esim.order_id,
            esim_id=esim_id,
            is_live=esim.is_live,
            threshold=threshold,
            data_used_mb=known.used_mb,
            data_total_mb=known.total_mb,
            usage_at=known.at,
        )
        await tell(connection, alert)


def _worth_a_mail(new: set[str]) -> list[str]:
    of_data = [threshold for threshold in NOTICES if threshold in new and threshold != EXPIRES_SOON]
    return of_data[-1:] + ([EXPIRES_SOON] if EXPIRES_SOON in new else [])
