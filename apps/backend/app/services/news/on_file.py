"""The events on file, for staff: what came, what became of it, and each to the byte."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import NotFound
from app.models import ReceivedEvent
from app.models.events import EVENT_OUTCOMES
from app.services.news.receive import body_place
from app.vault import Vault

OUTCOMES = EVENT_OUTCOMES
"""What an event's `outcome` may be; None until somebody has looked at it."""

PARKED_FOR = "1 hour"
"""So long after it came, the answer to any purchase is there."""

_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class EventOnFile:
    """`at` is the provider's time. `esim_id`: None where it isn't known, or not ours. `warnings`: what is odd about it."""

    id: int
    provider: str
    kind: str | None
    at: datetime | None
    received_at: datetime
    outcome: str | None
    esim_id: int | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EventInFull:
    event: EventOnFile
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Hearsay:
    """
    What has come of a provider's events. `parked`: for longer than PARKED_FOR. `last_at`: None where none is among the newest of
    all providers, a thousand.
    """

    parked: int
    last_at: datetime | None


_COLUMNS = (
    ReceivedEvent.id,
    ReceivedEvent.provider,
    ReceivedEvent.kind,
    ReceivedEvent.at,
    ReceivedEvent.received_at,
    ReceivedEvent.outcome,
    ReceivedEvent.profile_id,
    ReceivedEvent.warnings,
)
_IN_FULL = select(*_COLUMNS, ReceivedEvent.body).where(ReceivedEvent.id == bindparam("event_id"))
_COUNT_PARKED = select(func.count()).where(
    ReceivedEvent.outcome == "parked", ReceivedEvent.received_at < func.now() - text(f"interval '{PARKED_FOR}'")
)
# Of one that has told nothing lately all events of the others would be looked through.
_NEWEST = (
    select(ReceivedEvent.provider, ReceivedEvent.received_at).order_by(ReceivedEvent.id.desc()).limit(_LOOKED_AT)
).subquery()
_LAST = select(func.max(_NEWEST.c.received_at)).where(_NEWEST.c.provider == bindparam("provider"))


async def list_events(
    connection: AsyncConnection, *, outcome: str | None = None, esim_id: int | None = None, limit: int | None = None
) -> list[EventOnFile]:
    """
    Newest first.

    Args:
        outcome: one of OUTCOMES, None for any.
        esim_id: only those that were an eSIM's.
        limit: None for all.
    """
    query = select(*_COLUMNS).order_by(ReceivedEvent.id.desc()).limit(limit)
    if outcome is not None:
        query = query.where(ReceivedEvent.outcome == outcome)
    if esim_id is not None:
        query = query.where(ReceivedEvent.profile_id == esim_id)
    return [_event_of(row) for row in await connection.execute(query)]


async def event_in_full(connection: AsyncConnection, vault: Vault, event_id: int) -> EventInFull:
    """
    Raises:
        NotFound: there is none.
    """
    row = (await connection.execute(_IN_FULL, {"event_id": event_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no event {event_id}")
    return EventInFull(_event_of(row), vault.keyring.open(row.body, body_place(row.id)))


async def count_parked(connection: AsyncConnection) -> int:
    """Those of any provider that have been parked for longer than PARKED_FOR."""
    return await connection.scalar(_COUNT_PARKED) or 0


async def hearsay_of(connection: AsyncConnection, provider: str) -> Hearsay:
    last_at = await connection.scalar(_LAST, {"provider": provider})
    return Hearsay(await count_parked(connection), last_at)


def _event_of(row: Any) -> EventOnFile:  # noqa: ANN401 - a row that holds _COLUMNS
    return EventOnFile(
        id=row.id,
        provider=row.provider,
        kind=row.kind,
        at=row.at,
        received_at=row.received_at,
        outcome=row.outcome,
        esim_id=row.profile_id,
        warnings=tuple(row.warnings),
    )
