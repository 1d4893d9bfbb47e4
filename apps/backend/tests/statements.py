"""What is asked of the database, statement by statement."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from app.db import Database


@contextmanager
def statements(db: Database) -> Iterator[list[str]]:
    """Those that it is sent from here on, while the block lasts; transactions' own (BEGIN, COMMIT) aren't among them."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    engine = db._engine.sync_engine  # noqa: SLF001 - where statements can be counted
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)
