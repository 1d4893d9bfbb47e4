"""News moves an eSIM, under its row's lock: by a job as soon as it is received, and again when its ICCID turns up.

An event may be here before the answer to the purchase that its eSIM comes of. Then it is parked, and taken up by the job that
follows the delivery, or by the sweep. None falls in between: the delivery is committed before its job looks for events, and an
event before its job looks for the eSIM.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import BigInteger, Row, Text, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from app import metrics
from app.direct import Direct
from app.house import House
from app.models import EsimProfile, ReceivedEvent
from app.models.events import IS_OPEN
from app.services.esim_providers import News, ProviderEvent, event_source
from app.services.news.moves import Mover, moves_between, tell_of
from app.services.news.receive import body_place
from app.services.news.standing import Standing

_OLDEST = datetime(2020, 1, 1, tzinfo=UTC)
_MOST_AHEAD = timedelta(days=1)
"""A clock may be wrong, or a zone forgotten. What is further ahead would keep out all that comes until then."""

_BATCH = 500

log = structlog.get_logger()

# As the index has it, word for word: a value of its own would hide it from a plan that is made for any value.
_is_open = text(f"({IS_OPEN})")
_EVENT_COLUMNS: Sequence[Any] = (
    ReceivedEvent.id,
    ReceivedEvent.provider,
    ReceivedEvent.body,
    ReceivedEvent.iccid_fingerprint,
    ReceivedEvent.received_at,
    ReceivedEvent.outcome,
)
_EVENT = select(*_EVENT_COLUMNS).where(ReceivedEvent.id == bindparam("event_id"), ReceivedEvent.outcome.is_(None))
_OPEN_OF_ICCID = (
    select(*_EVENT_COLUMNS)
    .where(
        ReceivedEvent.iccid_fingerprint == bindparam("iccid_fingerprint"),
        ReceivedEvent.provider == bindparam("provider"),
        _is_open,
    )
    .order_by(ReceivedEvent.id)
)
_PROFILE_COLUMNS: Sequence[Any] = (
    EsimProfile.id,
    EsimProfile.order_id,
    EsimProfile.is_live,
    EsimProfile.provider,
    EsimProfile.iccid_fingerprint,
    EsimProfile.profile_state,
    EsimProfile.profile_state_at,
    EsimProfile.plan_state,
    EsimProfile.plan_state_at,
    EsimProfile.data_used_mb,
    EsimProfile.data_total_mb,
    EsimProfile.usage_at,
)
_LOCK_BY_ICCID = (
    select(*_PROFILE_COLUMNS)
    .where(
        EsimProfile.iccid_fingerprint == bindparam("iccid_fingerprint"), EsimProfile.provider == bindparam("provider")
    )
    .with_for_update()
)
_LOCK_BY_ID = select(*_PROFILE_COLUMNS).where(EsimProfile.id == bindparam("profile_id")).with_for_update()
_has_open = (
    select(EsimProfile.id)
    .join(
        ReceivedEvent,
        (ReceivedEvent.iccid_fingerprint == EsimProfile.iccid_fingerprint)
        & (ReceivedEvent.provider == EsimProfile.provider),
    )
    .distinct()
)
_HAS_OPEN = Direct(_has_open.where(EsimProfile.id == bindparam("profile_id"), _is_open))
_TO_CATCH_UP = _has_open.where(ReceivedEvent.outcome == "parked").order_by(EsimProfile.id).limit(_BATCH)
_MOVE = (
    update(EsimProfile)
    .where(EsimProfile.id == bindparam("profile_id"))
    .values({column: bindparam(f"new_{column}") for column in Standing.__slots__} | {"updated_at": func.now()})
)
_CONCLUDE = (
    update(ReceivedEvent)
    .where(ReceivedEvent.id == bindparam("event_id"), _is_open)
    .values(
        outcome=bindparam("new_outcome"),
        warnings=bindparam("new_warnings", type_=ARRAY(Text)),
        profile_id=bindparam("new_profile_id", type_=BigInteger),
        settled_at=func.now(),
    )
)


@dataclass(frozen=True, slots=True)
class _Believable:
    """An event that says something of an eSIM."""

    news: News
    at: datetime
    event: ProviderEvent


async def apply_event(house: House, event_id: int) -> None:
    """Works on an event that was received; one that was worked on already is left alone."""
    async with house.db.begin() as connection:
        row = (await connection.execute(_EVENT, {"event_id": event_id})).one_or_none()
        if row is None:
            return
        key = {"iccid_fingerprint": row.iccid_fingerprint, "provider": row.provider}
        profile = (await connection.execute(_LOCK_BY_ICCID, key)).one_or_none() if row.iccid_fingerprint else None
        if profile is not None:
            await _apply_open(connection, house, profile)
        else:
            event = _read(house, row)
            is_odd = _believable(event, row.received_at) is None
            await _conclude(connection, row, "odd" if is_odd else "parked", _warnings(event, row.received_at), None)


async def catch_up(house: House, esim_id: int) -> None:
    """Takes up the news of an eSIM that came before its ICCID was known; nothing where there is none."""
    async with house.db.read() as connection:
        if await _HAS_OPEN.one_or_none(connection, {"profile_id": esim_id}) is None:
            return
    async with house.db.begin() as connection:
        profile = (await connection.execute(_LOCK_BY_ID, {"profile_id": esim_id})).one()
        await _apply_open(connection, house, profile)


async def catch_up_all(house: House) -> int:
    """
    The sweep: parked events whose eSIM is there, since nobody looked (an older release's worker did the delivery's job).

    Returns:
        How many eSIMs.
    """
    async with house.db.read() as connection:
        found = list(await connection.scalars(_TO_CATCH_UP))
    for esim_id in found:
        await catch_up(house, esim_id)
    return len(found)


async def _apply_open(connection: AsyncConnection, house: House, profile: Row[Any]) -> None:
    """All that is open of an eSIM whose row is locked, in the order of the provider's times."""
    key = {"iccid_fingerprint": profile.iccid_fingerprint, "provider": profile.provider}
    rows = (await connection.execute(_OPEN_OF_ICCID, key)).all()
    read = [(row, _read(house, row)) for row in rows]
    for row, event in read:
        if _believable(event, row.received_at) is None:
            await _conclude(connection, row, "odd", _warnings(event, row.received_at), profile.id)
    told = [(row, found) for row, event in read if (found := _believable(event, row.received_at)) is not None]
    told.sort(key=lambda pair: pair[1].at)
    begun = standing = Standing(*(getattr(profile, column) for column in Standing.__slots__))
    for row, found in told:
        before, standing = standing, standing.after(found.news, found.at)
        outcome = "older" if standing == before else "applied"
        if await _conclude(connection, row, outcome, found.event.warnings, profile.id):
            moves = list(moves_between(before, standing, found.news, found.at))
            mover = Mover(profile.id, profile.order_id, profile.is_live, profile.provider, row.id)
            await tell_of(connection, mover, moves)
    if standing != begun:
        values = {f"new_{column}": value for column, value in asdict(standing).items()}
        await connection.execute(_MOVE, {"profile_id": profile.id} | values)


async def _conclude(
    connection: AsyncConnection, row: Row[Any], outcome: str, warnings: Sequence[str], profile_id: int | None
) -> bool:
    """Returns False where somebody else has concluded it: then nothing of it is ours to tell."""
    values = {"new_outcome": outcome, "new_warnings": list(warnings), "new_profile_id": profile_id}
    concluded = await connection.execute(_CONCLUDE, {"event_id": row.id} | values)
    if concluded.rowcount == 0:
        return False
    metrics.PROVIDER_NEWS.labels(row.provider, outcome).inc()
    log.info("news.looked_at", event_id=row.id, esim_id=profile_id, outcome=outcome, warnings=list(warnings))
    return True


def _read(house: House, row: Row[Any]) -> ProviderEvent:
    source = event_source(house.settings, row.provider)
    if source is None:
        raise LookupError(f"event {row.id}: this release knows no events of {row.provider}")
    return source.read(house.vault.keyring.open(row.body, body_place(row.id)))


def _believable(event: ProviderEvent, received_at: datetime) -> _Believable | None:
    """
    Args:
        received_at: by the database's clock.
    """
    if event.news is None or event.at is None or event.iccid is None or event.iccid.identity is None:
        return None
    if not _OLDEST <= event.at <= received_at + _MOST_AHEAD:
        return None
    return _Believable(event.news, event.at, event)


def _warnings(event: ProviderEvent, received_at: datetime) -> tuple[str, ...]:
    """Those of the event, and what only the clock can tell."""
    if event.at is None or _OLDEST <= event.at <= received_at + _MOST_AHEAD:
        return event.warnings
    return (*event.warnings, "time-too-old" if event.at < _OLDEST else "time-in-future")
