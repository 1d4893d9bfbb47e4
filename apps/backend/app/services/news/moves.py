"""
What has moved on an eSIM: the one place where it is told on.

`tell_of` runs within the transaction that moves the eSIM's row, once for each event that moved something, and never for older news
or a second delivery. Whoever else must hear of it (the seller's webhooks, a mail about little data) is told from here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Tag, record
from app.services.esim_providers import News, UsageTold
from app.services.news.standing import Standing

Axis = Literal["profile_state", "plan_state"]


@dataclass(frozen=True, slots=True)
class StateMoved:
    """`before`: None where nothing was known. `at`: the provider's time, UTC."""

    axis: Axis
    before: str | None
    after: str
    at: datetime


@dataclass(frozen=True, slots=True)
class UsageMoved:
    """Newer usage, in megabytes; `percentage` as the provider measured it (51.27). `at`: the provider's time, UTC."""

    used_mb: float
    total_mb: float
    percentage: float
    at: datetime


Move = StateMoved | UsageMoved

_TAGS: dict[Axis, Tag] = {
    "profile_state": Tag.ESIM_PROFILE_STATE_CHANGED,
    "plan_state": Tag.ESIM_PLAN_STATE_CHANGED,
}


def moves_between(before: Standing, after: Standing, news: News, at: datetime) -> Iterator[Move]:
    """What an event has moved. A state that was told again, later, has not."""
    if isinstance(news, UsageTold) and after.usage_at is not None and after != before:
        yield UsageMoved(news.used_mb, news.total_mb, news.percentage, at)
    if after.profile_state is not None and after.profile_state != before.profile_state:
        yield StateMoved("profile_state", before.profile_state, after.profile_state, at)
    if after.plan_state is not None and after.plan_state != before.plan_state:
        yield StateMoved("plan_state", before.plan_state, after.plan_state, at)


async def tell_of(
    connection: AsyncConnection, esim_id: int, moves: Sequence[Move], *, provider: str, event_id: int
) -> None:
    """
    Args:
        moves: of one event.
        event_id: of `provider_events`.
    """
    actor = f"provider:{provider}"
    for move in moves:
        at = move.at.isoformat()
        match move:
            case StateMoved():
                told = {"before": move.before, "after": move.after}
                await record(
                    connection, actor, _TAGS[move.axis], "esim_profiles", esim_id, at=at, event=event_id, **told
                )
            case UsageMoved():
                usage = {"used_mb": move.used_mb, "total_mb": move.total_mb, "percentage": move.percentage}
                await record(
                    connection, actor, Tag.ESIM_USAGE_TOLD, "esim_profiles", esim_id, at=at, event=event_id, **usage
                )
