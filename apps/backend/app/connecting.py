"""How a connection to PostgreSQL is made: what libpq is told, and whether the server may keep statements for it."""

import secrets
from traceback import clear_frames
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

WHOSE_PROCESS: Final = "SELECT pg_backend_pid()"
"""What each new connection asks."""

_WHERE_ASKED: Final = 1_000_000_000
"""psycopg prepares what was executed so many times, or is asked to be prepared, which `Direct` does."""


def libpq_url(url: str) -> str:
    """The URL in the form that libpq and psycopg take."""
    scheme, _, rest = url.partition("://")
    return "postgresql://" + rest if scheme in {"postgres", "postgresql+psycopg"} else url


def connect_arguments(url: str, application_name: str) -> dict[str, Any]:
    """
    How psycopg connects. The URL is read by libpq itself (SQLAlchemy reads several hosts, sockets and escapes otherwise), and what
    it says goes before our own.
    """
    # A path that has gone silent (a failover behind an address, a dropped NAT entry) is given up in seconds, not in minutes.
    patience = {"tcp_user_timeout": 10_000, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2}
    ours = {"connect_timeout": 5, "application_name": application_name} | patience
    # Server-side prepared statements belong to a session, which PgBouncer's transaction mode takes away: see `connect`.
    return ours | conninfo_to_dict(libpq_url(url)) | {"prepare_threshold": None}


async def connect(conninfo: str = "", *, may_prepare: bool = True, **arguments: Any) -> psycopg.AsyncConnection[Any]:  # noqa: ANN401 - as psycopg declares them
    """
    A connection in autocommit, on which statements may be prepared where the server itself is at the other end.

    Args:
        may_prepare: False where that has turned out to be wrong.

    Raises:
        psycopg.Error: there is no connection to be had.
    """
    try:
        driver = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, **arguments)
    except BaseException as error:
        # The frames of the error hold the connection, half-made and open, until the garbage collector comes by: too many of them
        # (a database that goes silent under load), and it takes no more.
        clear_frames(error.__traceback__)
        raise
    try:
        if may_prepare and await is_direct(driver):
            driver.prepare_threshold = _WHERE_ASKED
            # Numbered from anywhere: should a pooler be there after all, no name is that of another client's statement.
            driver._prepared._prepared_idx = secrets.randbits(48)  # noqa: SLF001 - there is no public way
    except BaseException:
        await driver.close()
        raise
    return driver


async def is_direct(driver: psycopg.AsyncConnection[Any]) -> bool:
    """
    Whether the server itself is at the other end, whose session is ours for as long as the connection. PgBouncer, as any pooler
    that lends sessions, tells its clients numbers of its own for the server's process (they cancel by them).
    """
    row = await (await driver.execute(WHOSE_PROCESS)).fetchone()
    return row is not None and row[0] == driver.info.backend_pid
