"""The database's schema: bringing it up to date, and telling whether it is."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.errors import DeadlockDetected, LockNotAvailable, UndefinedTable
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from app.connecting import connect_arguments
from app.db import reason_of
from app.errors import ConfigurationError, DatabaseUnavailable

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"

LOCK_TIMEOUT_MS = 150
"""How long a migration waits for a table, since everybody else queues behind it: then it lets them pass, and tries again."""

_PATIENCE_S = 120
_PAUSE_MS = (100, 500)
_LOOK_AGAIN_S = 0.1

# One migration at a time, however many processes start at once; held by the transaction, so that PgBouncer may be in between.
_ONE_AT_A_TIME = text("SELECT pg_try_advisory_xact_lock(7238441012)")


def _config() -> "Config":
    from alembic.config import Config  # wanted only when there is something to migrate

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def head() -> str:
    """The newest revision that this code knows. Our revisions are numbers in a row, so that this needs no Alembic (0.3 s)."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def shortfall(revision: str | None) -> str | None:
    """
    What a database at this revision lacks for this code; None where it will do. A newer one does: releases are rolled one by one,
    and a migration leaves alone what the release before it needs (CONTRIBUTING.md).
    """
    if revision is not None and revision >= head():
        return None
    return f"at {revision or 'nothing'}, {head()} is needed: run `tribi migrate`"


def migrate(url: str, revision: str = "head", *, patience_s: float = _PATIENCE_S) -> str | None:
    """
    Brings the database to a revision; a database that is there already, or further, is left alone. Others may use it meanwhile.

    Args:
        url: libpq's form.
        revision: Alembic's notation; with a leading `-` it goes back.
        patience_s: for how long busy tables are tried again.

    Returns:
        Where it stands now; None for the very beginning.

    Raises:
        DatabaseUnavailable: it is away, or a table that must change was busy for too long. Revisions reached by then stay.
        ConfigurationError: the database stands at a revision that this code doesn't know, and that isn't a newer one.
    """
    from alembic.util import CommandError  # as above

    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            return _migrate(url, revision)
        except OperationalError as error:
            if not isinstance(error.orig, (LockNotAvailable, DeadlockDetected)):
                raise DatabaseUnavailable(f"database: {reason_of(error)}") from error
            if time.monotonic() > give_up_at:
                raise DatabaseUnavailable(
                    f"a table that a migration must change stayed busy for {patience_s:g} s ({reason_of(error)}): "
                    "end what holds it (a backup, a report, an autovacuum: see pg_stat_activity), then try again"
                ) from error
        except CommandError as error:
            raise ConfigurationError(f"the database cannot be migrated ({error}): is it Tribi's?") from error
        low, high = _PAUSE_MS
        time.sleep((low + secrets.randbelow(high - low)) / 1000)


def _migrate(url: str, revision: str) -> str | None:
    from alembic import command  # as above

    engine = create_engine(
        "postgresql+psycopg://", poolclass=NullPool, connect_args=connect_arguments(url, "tribi-migrate")
    )
    config = _config()
    with _alone(engine) as lock, engine.connect() as connection:
        if revision == "head" and (_revision(lock) or "") >= head():
            return _revision(lock)  # of a newer release, perhaps, which this one stands in for again
        limit = f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_MS}ms'"
        event.listen(connection, "begin", lambda begun: begun.exec_driver_sql(limit))
        config.attributes["connection"] = connection
        if revision.startswith("-") or revision == "base":
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)
        connection.commit()
        return _revision(connection)


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Waits until nobody else migrates."""
    with engine.connect() as lock:
        # Not in a statement: an index that is made while others write waits for the end of every one that has begun.
        while not lock.scalar(_ONE_AT_A_TIME):
            lock.rollback()
            time.sleep(_LOOK_AGAIN_S)
        yield lock


def _revision(connection: Connection) -> str | None:
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


async def current_revision(connection: AsyncConnection) -> str | None:
    """
    The revision that the database stands at, None where it was never migrated.

    Raises:
        DatabaseUnavailable: we may not look.
    """
    try:
        revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    except ProgrammingError as error:
        if isinstance(error.orig, UndefinedTable):
            return None
        raise DatabaseUnavailable(f"database: {reason_of(error)}") from error
    return revision
