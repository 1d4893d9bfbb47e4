"""What is asked of the database, statement by statement."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from app.connecting import WHOSE_PROCESS
from app.db import Database


@contextmanager
def statements(db: Database) -> Iterator[list[str]]:
    """
    Those that it is sent from here on, while the block lasts; those of transactions (BEGIN, COMMIT) and of new connections aren't
    among them.
    """
    seen: list[str] = []
    execute = psycopg.AsyncCursor.execute
    database = conninfo_to_dict(db.url)["dbname"]

    async def noted(cursor: psycopg.AsyncCursor[Any], query: Any, *arguments: Any, **named: Any) -> Any:
        if cursor.connection.info.dbname == database and query != WHOSE_PROCESS:
            seen.append(query)
        return await execute(cursor, query, *arguments, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            psycopg.AsyncCursor, "execute", noted
        )  # where SQLAlchemy's statements come by, and our direct ones
        yield seen
