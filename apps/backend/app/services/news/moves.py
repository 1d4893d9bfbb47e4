"""
What has moved on an eSIM: the one place where it is told on.

`tell_of` runs within the transaction that moves the eSIM's row, once for each event that moved something, and never for older news
or a second delivery: the audit trail, the seller's webhooks, and the traveller whose data run low.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Tag, record
from app.services.esim_providers import News, UsageTold
from app.services.esims.term import note_plan_active
from app.services.esims.thresholds import Usage, crossed_by_percentage, crossed_by_usage, note_thresholds
from app.services.news.standing import Standing
from app.services.webhooks.events import EsimPlanStateChanged, EsimProfileStateChanged
from app.services.webhooks.tell import tell

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


@dataclass(frozen=True, slots=True)
class Mover:
    """The eSIM that moves, and the event (of `provider_events`) that moves it."""

    esim_id: int
    order_id: int
    is_live: bool
    provider: str
    event_id: int


async def tell_of(connection: AsyncConnection, mover: Mover, moves: Sequence[Move]) -> None:
    """
    Args:
        moves: of one event.
    """
    for move in moves:
        match move:
            case StateMoved():
                await _record(connection, mover, _TAGS[move.axis], move.at, before=move.before, after=move.after)
                await _tell_state(connection, mover, move)
            case UsageMoved():
                told = {"used_mb": move.used_mb, "total_mb": move.total_mb, "percentage": move.percentage}
                await _record(connection, mover, Tag.ESIM_USAGE_TOLD, move.at, **told)
                crossed = {*crossed_by_usage(move.used_mb, move.total_mb), *crossed_by_percentage(move.percentage)}
                usage = Usage(move.used_mb, move.total_mb, move.at)
                await note_thresholds(connection, mover.esim_id, crossed, usage=usage)


async def _tell_state(connection: AsyncConnection, mover: Mover, move: StateMoved) -> None:
    whose: dict[str, Any] = {"order_id": mover.order_id, "esim_id": mover.esim_id, "is_live": mover.is_live}
    state: Any = move.after  # a constraint of the table holds it to the states that there are
    if move.axis == "profile_state":
        await tell(connection, EsimProfileStateChanged(**whose, profile_state=state, changed_at=move.at))
        return
    await tell(connection, EsimPlanStateChanged(**whose, plan_state=state, changed_at=move.at))
    if state == "active":
        await note_plan_active(connection, mover.esim_id, move.at)


async def _record(connection: AsyncConnection, mover: Mover, tag: Tag, at: datetime, **facts: Any) -> None:  # noqa: ANN401 - JSON
    actor = f"provider:{mover.provider}"
    await record(
        connection, actor, tag, "esim_profiles", mover.esim_id, at=at.isoformat(), event=mover.event_id, **facts
    )
