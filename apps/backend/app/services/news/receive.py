"""An event is stored once, with its job, before the provider is answered."""

from sqlalchemy import bindparam, exists, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import Database
from app.models import ReceivedEvent
from app.queue import Job, enqueue
from app.services.esim_providers import EventSource
from app.vault import Place, Vault

_YEARS = range(2, 9999)
"""In the first and the last year there is, a server in another zone shows times that no program can read; the body has them."""

# The number first, since the body is sealed for its row; none where the event is there already.
_NEW_ID = select(func.nextval("provider_events_id_seq")).where(
    ~exists().where(
        ReceivedEvent.provider == bindparam("provider"), ReceivedEvent.fingerprint == bindparam("fingerprint")
    )
)
_STORE = (
    upsert(ReceivedEvent)
    .values(
        id=bindparam("event_id"),
        provider=bindparam("provider"),
        fingerprint=bindparam("fingerprint"),
        body=bindparam("body"),
        kind=bindparam("kind"),
        iccid_fingerprint=bindparam("iccid_fingerprint"),
        at=bindparam("at"),
    )
    .on_conflict_do_nothing(index_elements=["provider", "fingerprint"])
    .returning(ReceivedEvent.id)
)


def body_place(event_id: int) -> Place:
    """Where an event's sealed body stands."""
    return Place(ReceivedEvent.__tablename__, "body", event_id)


async def receive_event(db: Database, vault: Vault, source: EventSource, body: bytes) -> bool:
    """
    Stores an event whose sender is known; once this returns, it is on the disk.

    Returns:
        False where it was there already.

    Raises:
        DatabaseUnavailable: not (or not surely) stored; the provider may send it again.
    """
    event = source.read(body)
    identity = event.iccid.identity if event.iccid else None
    values = {
        "provider": source.name,
        "fingerprint": vault.fingerprint("provider_event", event.key),
        "iccid_fingerprint": vault.fingerprint("iccid", identity) if identity else None,
        "kind": event.kind,
        "at": event.at if event.at and event.at.year in _YEARS else None,
    }
    async with db.begin() as connection:
        event_id = await connection.scalar(_NEW_ID, values)
        if event_id is None:
            return False
        return await _store(
            connection, values | {"event_id": event_id, "body": vault.keyring.seal(body, body_place(event_id))}
        )


async def _store(connection: AsyncConnection, values: dict[str, object]) -> bool:
    event_id = await connection.scalar(_STORE, values)
    if event_id is None:  # the same event came in at this very moment
        return False
    await enqueue(connection, Job.PROVIDER_EVENT_RECEIVED, event_id=event_id)
    return True
