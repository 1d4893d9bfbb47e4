"""The connection to PostgreSQL: a pool with a fair gate in front, transactions, and one error for "it is away".

A function that takes a `Database` is an act: it opens its own transactions and may talk to the world. One that takes an
`AsyncConnection` works inside its caller's transaction, never commits and never waits on a network.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName, ReadOnlySqlTransaction
from psycopg.pq import TransactionStatus
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.schema import MetaData

from app.connecting import connect, connect_arguments, libpq_url
from app.errors import DatabaseUnavailable
from app.gate import Gate

GATE_TIMEOUT_S = 30
"""When no connection has come free for so long, units of work that queue for one are told that the database is away."""

_STORE_AGAIN_AFTER_S = 1
_DRIVER = "driver"


class Base(DeclarativeBase):
    """The root of all tables; the naming convention makes every constraint addressable by migrations and error handling."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Database:
    """A pool of connections. Units of work queue in front of it (SQLAlchemy's own queue is unfair: p99 four times worse)."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """
        Args:
            url: libpq's form, `postgresql://user:password@host/name`.
            pool_size: connections at most; more than about 16 on one server buy nothing.
        """
        self.url = libpq_url(url)
        self._may_prepare = True
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=False,  # a round trip a unit of work; a dead connection is seen by its first statement instead
            pool_recycle=1800,
            hide_parameters=True,  # values never reach an error's text; see `tidy`, too
            # Transactions begin and end in `begin`. SQLAlchemy's own way costs as much as three statements of an activation:
            # it switches each connection to autocommit and back for each single statement, and rolls back what has ended.
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            pool_reset_on_return=None,
            use_native_hstore=False,  # there is none, and looking for it is a transaction for each new connection
            connect_args=connect_arguments(self.url, "tribi") | {"async_creator_fn": self._connect},
        )
        event.listen(self._engine.sync_engine, "handle_error", _on_error)
        event.listen(self._engine.sync_engine, "connect", _on_connect)
        self._gate = Gate(pool_size)

    @asynccontextmanager
    async def begin(self, *, within_s: float | None = None) -> AsyncGenerator[AsyncConnection, None]:
        """
        One transaction: committed at the end, rolled back when an error leaves it.

        Args:
            within_s: how long it may take, from its turn in the queue on.

        Raises:
            DatabaseUnavailable: the connection could not be had or was lost, or took longer; when that was at the commit,
                whether it took place is not known.
        """
        async with self._unit(within_s) as connection:
            driver = driver_of(connection)
            await driver.execute("BEGIN")
            try:
                yield connection
            except BaseException:
                if not connection.invalidated:
                    await driver.rollback()
                raise
            if driver.info.transaction_status is TransactionStatus.INERROR:
                await driver.rollback()
                raise RuntimeError("an error within the transaction was passed over: PostgreSQL commits nothing of it")
            await driver.commit()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection, None]:
        """Single statements in autocommit, which saves the round trips of BEGIN and COMMIT. Raises as `begin`."""
        async with self._unit() as connection:
            yield connection

    @asynccontextmanager
    async def _unit(self, within_s: float | None = None) -> AsyncGenerator[AsyncConnection, None]:
        try:
            place = await self._gate.enter(stuck_after_s=GATE_TIMEOUT_S)
        except TimeoutError as error:
            raise DatabaseUnavailable("no database connection came free in time") from error
        limit = asyncio.timeout(within_s)
        try:
            async with limit, self._engine.connect() as connection:
                try:
                    yield connection
                except psycopg.Error as error:  # of a transaction's own statements
                    raise await as_sqlalchemy_raises(connection, error) from error
                finally:
                    if not connection.invalidated and not _is_idle(driver_of(connection)):
                        await connection.invalidate()  # cut short in the middle of a statement or a transaction
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DatabaseUnavailable("the database has said nothing in time") from error
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise DatabaseUnavailable(f"database: {reason_of(error)}") from error
        except DBAPIError as error:
            if isinstance(error.orig, InvalidSqlStatementName):
                self._may_prepare = False  # a pooler passes itself off as a server
            if error.connection_invalidated:
                raise DatabaseUnavailable(f"database: {reason_of(error)}") from error
            raise
        finally:
            place.leave()

    async def _connect(self, conninfo: str = "", **arguments: Any) -> psycopg.AsyncConnection[Any]:  # noqa: ANN401 - as psycopg declares them
        return await connect(conninfo, may_prepare=self._may_prepare, **arguments)

    async def close(self) -> None:
        await self._engine.dispose()


def driver_of(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    """psycopg's connection beneath SQLAlchemy's."""
    driver: psycopg.AsyncConnection[Any] = connection.info[_DRIVER]
    return driver


def _is_idle(driver: psycopg.AsyncConnection[Any]) -> bool:
    return driver.info.transaction_status is TransactionStatus.IDLE


async def as_sqlalchemy_raises(connection: AsyncConnection, error: psycopg.Error) -> DBAPIError:
    """The error that SQLAlchemy would have raised, had it run the statement. A connection that is lost goes."""
    wrapped = DBAPIError.instance(None, None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect)
    assert isinstance(wrapped, DBAPIError)  # noqa: S101 - what psycopg raises is one of its errors
    if not connection.invalidated:
        wrapped.connection_invalidated = tidy(error, wrapped) or driver_of(connection).closed
        if wrapped.connection_invalidated:
            # What SQLAlchemy does: the others of its age are lost, too, and are made anew before anybody is given one.
            pool, lost = connection.engine.sync_engine.pool, await connection.get_raw_connection()
            pool._invalidate(lost, error, _checkin=False)  # noqa: SLF001 - there is no public way
            await connection.invalidate(error)
    return wrapped


def violated_constraint(error: DBAPIError) -> str | None:
    """The name of the constraint that an integrity error broke."""
    return error.orig.diag.constraint_name if isinstance(error.orig, psycopg.Error) else None


def reason_of(error: Exception) -> str:
    """The driver's error in one line, without the statement and its values."""
    original = getattr(error, "orig", None) or error
    return f"{type(original).__name__}: {str(original).splitlines()[0] if str(original) else 'no message'}"


def _on_connect(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    record.info[_DRIVER] = connection.driver_connection


def _on_error(context: ExceptionContext) -> None:
    error, wrapped = context.original_exception, context.sqlalchemy_exception
    if isinstance(error, psycopg.Error):
        context.is_disconnect |= tidy(error, wrapped)


def tidy(error: psycopg.Error, wrapped: Exception | None) -> bool:
    """
    PostgreSQL's DETAIL repeats the row, names and addresses included. An error's text goes without; its `diag` has it still.

    Args:
        wrapped: what SQLAlchemy makes of it.

    Returns:
        Whether its connection may not be kept in the pool: a primary that has become a standby, or a full disk, is as good as away,
        and so is a session that has lost a prepared statement, or whose tables were altered beneath it.
    """
    error.args = (str(error).partition("\n")[0],)
    if wrapped is not None:
        wrapped.args = (reason_of(wrapped),)
    is_stale = isinstance(error, FeatureNotSupported) and error.diag.source_function == "RevalidateCachedQuery"
    return is_stale or isinstance(error, ReadOnlySqlTransaction | InvalidSqlStatementName)


async def until_stored(store: Callable[[], Awaitable[None]], within_s: float) -> None:
    """
    Stores what has happened already outside, and would happen again if it weren't known: once more each second while the database
    is away.

    Args:
        store: may be done twice.

    Raises:
        DatabaseUnavailable: it is still away when the time is over.
    """
    give_up_at = asyncio.get_running_loop().time() + within_s
    while True:
        try:
            await store()
        except DatabaseUnavailable:
            if asyncio.get_running_loop().time() > give_up_at:
                raise
            await asyncio.sleep(_STORE_AGAIN_AFTER_S)
        else:
            return
