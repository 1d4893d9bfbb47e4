"""Statements that every activation and every look come by: written with SQLAlchemy, compiled once, run by psycopg itself.

SQLAlchemy spends four times what psycopg does on each execution of a statement, even of one that was built at import
(docs/performance.md). The connection is SQLAlchemy's all the same: its pool, its transaction, its errors.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any, Final

import psycopg
from sqlalchemy import ARRAY
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

from app.db import as_sqlalchemy_raises, driver_of

Values = Mapping[str, Any]

_CURSORS: Final = "cursors"
"""Of a connection, by statement, for as long as it is open."""

_DIALECT: Final = PGDialect_psycopg(paramstyle="pyformat")  # type: ignore[no-untyped-call]  # SQLAlchemy types only a part of itself
_FLOAT8: Final = 701
"""PostgreSQL's number of the one type for which it matters to SQLAlchemy what comes over the wire."""


class Direct:
    """A statement, and how its values go in and its rows come out."""

    def __init__(self, statement: Executable) -> None:
        """
        Args:
            statement: whose values are all `bindparam`s or constants; none of them expands (`IN`).

        Raises:
            TypeError: a column of it needs SQLAlchemy to be read.
        """
        assert isinstance(statement, ClauseElement)  # noqa: S101 - whatever is executable is one
        compiled = statement.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - of no schema
        self._sql = str(compiled)
        self._constants = {name: one.value for name, one in compiled.binds.items() if not one.required}
        self._convert: dict[str, Callable[[Any], Any]] = {}
        for name, bind in compiled.binds.items():
            if convert := bind.type.dialect_impl(_DIALECT).bind_processor(_DIALECT):
                self._convert[name] = convert
        columns = getattr(statement, "exported_columns", ())
        for column in columns:
            kind = column.type.item_type if isinstance(column.type, ARRAY) else column.type  # arrays are lists already
            if kind.dialect_impl(_DIALECT).result_processor(_DIALECT, _FLOAT8):
                raise TypeError(f"{column.key} isn't what psycopg makes of it")
        # Any: what stands in a row is between the statement and its caller, as with SQLAlchemy's own Row[Any].
        self._row: Any = namedtuple("Row", [column.key for column in columns]) if len(columns) else None  # noqa: PYI024

    async def one_or_none(self, connection: AsyncConnection, values: Values) -> Any:  # noqa: ANN401 - see above
        """
        Runs it, and returns its row, by attributes; None where there is none.

        Raises:
            DBAPIError: as SQLAlchemy's own `execute`.
        """
        cursor = await self._execute(connection, values)
        found = await cursor.fetchone()
        return None if found is None else self._row._make(found)

    async def all(self, connection: AsyncConnection, values: Values) -> list[Any]:
        """All its rows, by attributes. Raises as `one_or_none`."""
        cursor = await self._execute(connection, values)
        return [self._row._make(found) for found in await cursor.fetchall()]

    async def run(self, connection: AsyncConnection, values: Values) -> None:
        """Runs it for what it does. Raises as `one_or_none`."""
        await self._execute(connection, values)

    async def _execute(self, connection: AsyncConnection, values: Values) -> psycopg.AsyncCursor[Any]:
        given = {**self._constants, **values}
        for name, convert in self._convert.items():
            given[name] = convert(given[name])
        # A cursor that runs one statement only needn't find out each time how its values go in and out: that is half of the cost.
        cursors: dict[Direct, psycopg.AsyncCursor[Any]] = connection.info.setdefault(_CURSORS, {})
        cursor = cursors.get(self)
        if cursor is None:
            cursor = cursors[self] = driver_of(connection).cursor(binary=True)
        try:
            return await cursor.execute(self._sql, given, prepare=True)
        except psycopg.Error as error:
            raise await as_sqlalchemy_raises(connection, error) from error
