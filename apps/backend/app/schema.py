"""The database's schema: bringing it up to date, and telling whether it is."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from app.db import connect_arguments, reason_of
from app.errors import ConfigurationError, DatabaseUnavailable

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"

# One migration at a time, however many processes start at once; held by the transaction, so that PgBouncer may be in between.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(7238441012)")


def _config() -> "Config":
    from alembic.config import Config  # wanted only when there is something to migrate

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def head() -> str:
    """The newest revision that this code knows. Our revisions are numbers in a row, so that this needs no Alembic (0.3 s)."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def migrate(url: str, revision: str = "head") -> None:
    """
    Brings the database to a revision; a database that is there already is left alone.

    Args:
        url: libpq's form.
        revision: Alembic's notation; with a leading `-` it goes back.

    Raises:
        DatabaseUnavailable: it is away, or a table that must change was busy for too long. Revisions reached by then stay.
        ConfigurationError: the database stands at a revision that this code doesn't know.
    """
    from alembic.util import CommandError  # as above

    try:
        _migrate(url, revision)
    except OperationalError as error:
        raise DatabaseUnavailable(f"database: {reason_of(error)}") from error
    except CommandError as error:
        raise ConfigurationError(f"the database cannot be migrated ({error}): was it made by a newer Tribi?") from error


def _migrate(url: str, revision: str) -> None:
    from alembic import command  # as above

    engine = create_engine(
        "postgresql+psycopg://", poolclass=NullPool, connect_args=connect_arguments(url, "tribi-migrate")
    )
    config = _config()
    with engine.connect() as lock, lock.begin(), engine.connect() as connection:
        lock.execute(_ONE_AT_A_TIME)
        # A migration that must wait for a busy table gives up rather than make everybody queue behind it.
        event.listen(connection, "begin", lambda begun: begun.exec_driver_sql("SET LOCAL lock_timeout = '5s'"))
        config.attributes["connection"] = connection
        if revision.startswith("-") or revision == "base":
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)
        connection.commit()


async def current_revision(connection: AsyncConnection) -> str | None:
    """The revision that the database stands at, None where it was never migrated."""
    try:
        revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    except ProgrammingError:
        return None
    return revision
