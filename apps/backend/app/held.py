"""
Held mode: a database that has forgotten what the intent journal knows sends nothing and takes no orders, until `tribi recover`.

Each process compares at its start, with every intent (its own last line) and every few seconds. Who finds a gap says so in the
database, for all processes.
"""

from collections.abc import Collection
from datetime import datetime

import structlog
from sqlalchemy import BigInteger, DateTime, and_, bindparam, column, exists, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import SYSTEM, Tag, record
from app.db import Database
from app.errors import PausedBy, ProviderPaused
from app.journal import Entry
from app.models import ForgottenAttempt, Installation, ProvisioningAttempt

_RETRY_AFTER_S = 60
"""What clients are told: a person has to act."""

log = structlog.get_logger()


class InstallationHeld(ProviderPaused):
    """Nothing is sent and no order taken: the database is older than the intent journal."""

    def __init__(self) -> None:
        super().__init__(PausedBy.HELD, retry_after_s=_RETRY_AFTER_S)


class DatabaseForgets(Exception):
    """An attempt that is in the journal isn't in the database (any more)."""


HELD = select(Installation.held_since)
"""None unless held."""
HELD_SINCE = HELD.scalar_subquery()

_last_id = bindparam("last_attempt_id", type_=BigInteger)
_last_opened_at = bindparam("last_opened_at", type_=DateTime(timezone=True))
FORGETS = and_(
    _last_id.is_not(None),
    ~exists().where(ProvisioningAttempt.id == _last_id, ProvisioningAttempt.opened_at == _last_opened_at),
    ~exists().where(ForgottenAttempt.attempt_id == _last_id, ForgottenAttempt.opened_at == _last_opened_at),
)
"""Whether a journal's line (`of_line`) is unknown to the database."""

_entry = (
    func.unnest(
        bindparam("attempt_ids", type_=ARRAY(BigInteger)), bindparam("opened_ats", type_=ARRAY(DateTime(timezone=True)))
    )
    .table_valued(column("attempt_id", BigInteger), column("opened_at", DateTime(timezone=True)))
    .render_derived(name="entry")
)
_FORGOTTEN = select(_entry.c.attempt_id, _entry.c.opened_at).where(
    ~exists().where(ProvisioningAttempt.id == _entry.c.attempt_id, ProvisioningAttempt.opened_at == _entry.c.opened_at),
    ~exists().where(
        ForgottenAttempt.attempt_id == _entry.c.attempt_id, ForgottenAttempt.opened_at == _entry.c.opened_at
    ),
)
_HOLD = (
    update(Installation)
    .where(Installation.held_since.is_(None))
    .values(held_since=func.now())
    .returning(Installation.id)
)


def of_line(last: Entry | None) -> dict[str, int | datetime | None]:
    """The parameters of FORGETS."""
    return {
        "last_attempt_id": last.attempt_id if last else None,
        "last_opened_at": last.opened_at if last else None,
    }


async def forgotten_among(connection: AsyncConnection, entries: Collection[Entry]) -> list[Entry]:
    """Those that the database doesn't know."""
    asked = {
        "attempt_ids": [entry.attempt_id for entry in entries],
        "opened_ats": [entry.opened_at for entry in entries],
    }
    found = {(row.attempt_id, row.opened_at) for row in await connection.execute(_FORGOTTEN, asked)}
    return [entry for entry in entries if (entry.attempt_id, entry.opened_at) in found]


async def hold_if_older(db: Database, entries: Collection[Entry]) -> bool:
    """
    Enters held mode if the database doesn't know all of these lines.

    Returns:
        Whether it doesn't.

    Raises:
        DatabaseUnavailable: not compared.
    """
    if not entries:
        return False
    async with db.read() as connection:
        forgotten = await forgotten_among(connection, entries)
    if forgotten:
        await hold(db, forgotten=len(forgotten))
    return bool(forgotten)


async def hold(db: Database, *, forgotten: int) -> None:
    """Enters held mode, for all processes."""
    async with db.begin() as connection:
        if await connection.scalar(_HOLD) is None:
            return  # held already
        await record(connection, SYSTEM, Tag.INSTALLATION_HELD, "installation", 1, forgotten=forgotten)
    log.critical(
        "installation.held",
        reason="the database is older than the intent journal: it was restored, or a failover has lost commits",
        forgotten=forgotten,
        effect="nothing is sent and no order is taken until `tribi recover`",
    )
