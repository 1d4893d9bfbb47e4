"""What keeps orders from a provider. A person does it by a switch that all processes read before each order."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Text, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Tag, record
from app.errors import PausedBy
from app.held import HELD
from app.models import ProviderState, ProvisioningAttempt
from app.redaction import redact
from app.services.esims.circuit import Circuit
from app.services.esims.spend import Caps, Spent, spent


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One of the things that keep orders from a provider. None where that kind of obstacle has no such thing, or nobody knows."""

    by: PausedBy
    since: datetime | None = None
    until: datetime | None = None
    """A cap's: when there is room again. The circuit's: when the next probe may go."""
    reason: str | None = None
    """A person's, in words; the circuit's problem type; the name of the cap's setting."""
    actor: str | None = None
    """Who has paused it, in the form of `audit_log.actor`."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Whether orders go out, and how far the caps are used up; `spent` is None where nothing is counted."""

    obstacles: tuple[Obstacle, ...]
    spent: Spent | None

    @property
    def paused_by(self) -> frozenset[PausedBy]:
        return frozenset(obstacle.by for obstacle in self.obstacles)


_of_provider = bindparam("of_provider", type_=Text)
_fresh = upsert(ProviderState).values(
    provider=_of_provider, paused_at=func.now(), paused_by=bindparam("actor"), pause_reason=bindparam("reason")
)
_PAUSE = _fresh.on_conflict_do_update(
    index_elements=["provider"],
    set_={
        "paused_at": func.coalesce(ProviderState.paused_at, _fresh.excluded.paused_at),
        "paused_by": _fresh.excluded.paused_by,
        "pause_reason": _fresh.excluded.pause_reason,
        "updated_at": func.now(),
    },
)
_RESUME = (
    update(ProviderState)
    .where(ProviderState.provider == _of_provider, ProviderState.paused_at.is_not(None))
    .values(paused_at=None, paused_by=None, pause_reason=None, updated_at=func.now())
)
_PAUSED = select(ProviderState.paused_at, ProviderState.pause_reason, ProviderState.paused_by).where(
    ProviderState.provider == _of_provider, ProviderState.paused_at.is_not(None)
)
_UNDER_WAY = select(func.count()).where(
    ProvisioningAttempt.provider == _of_provider, ProvisioningAttempt.outcome.is_(None)
)


async def pause(connection: AsyncConnection, provider: str, *, reason: str, actor: str) -> int:
    """
    Nothing is sent to the provider any more, by any process, from the commit on. Pausing it again changes who and why.

    Returns:
        How many calls are under way: they go on, and what they bring is kept.
    """
    said = redact(reason)
    await connection.execute(_PAUSE, {"of_provider": provider, "actor": actor, "reason": said})
    await record(connection, actor, Tag.PROVIDER_PAUSED, "provider_states", None, provider=provider, reason=said)
    return await connection.scalar(_UNDER_WAY, {"of_provider": provider}) or 0


async def resume(connection: AsyncConnection, provider: str, *, actor: str) -> bool:
    """Ends a person's pause. Returns False where there was none."""
    resumed = await connection.execute(_RESUME, {"of_provider": provider})
    if resumed.rowcount:
        await record(connection, actor, Tag.PROVIDER_RESUMED, "provider_states", None, provider=provider)
    return bool(resumed.rowcount)


async def outlook(connection: AsyncConnection, provider: str, circuit: Circuit | None, caps: Caps | None) -> Outlook:
    """
    Args:
        circuit: None for a provider that isn't the configured one.
    """
    obstacles = []
    held_since = await connection.scalar(HELD)
    if held_since is not None:
        obstacles.append(Obstacle(PausedBy.HELD, held_since))
    row: Row[datetime | None, str | None, str | None] | None
    row = (await connection.execute(_PAUSED, {"of_provider": provider})).one_or_none()
    if row is not None:
        since, reason, actor = row
        obstacles.append(Obstacle(PausedBy.PERSON, since, reason=reason, actor=actor))
    opened = None if circuit is None else await circuit.pause(connection)
    if opened is not None:
        obstacles.append(Obstacle(PausedBy.CIRCUIT, opened.since, opened.next_probe_at, opened.reason))
    used = None if caps is None else await spent(connection, caps)
    if used is not None and used.is_full_until is not None:
        setting = "LIVE_ESIMS_PER_DAY" if used.is_full_until == used.day_is_full_until else "LIVE_ESIMS_PER_HOUR"
        obstacles.append(Obstacle(PausedBy.CAP, until=used.is_full_until, reason=setting))
    return Outlook(tuple(obstacles), used)
