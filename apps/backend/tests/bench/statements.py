"""What the database server executes for a request, told by the server itself, whichever way the statements reach it."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import Diagnostic

from app import main

_SAID = re.compile(r"(?:execute [^:]*|statement): (.*)", re.DOTALL)
_PARAMETER = re.compile(r"\$(\d+) = (NULL|'((?:[^']|'')*)')")
_IN_BRACKETS = re.compile(r"\([^()]*\)")
_VERB = re.compile(r"\s*(\w+)")
_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+(\w+)")
_ENDS = {"BEGIN", "COMMIT", "ROLLBACK"}
_BACKGROUND = ("keep_sweeping", "keep_replaying", "keep_working", "keep_delivering", "keep_credential_current")


@dataclass(frozen=True, slots=True)
class Statement:
    """
    Attributes:
        connection: a number for the connection that it came by.
        text: with `$1` for its first parameter.
        parameters: as PostgreSQL writes them; None is NULL.
    """

    connection: int
    text: str
    parameters: tuple[str | None, ...] = ()

    @property
    def shape(self) -> str:
        """In two words, and whether it locks: `SELECT orders FOR UPDATE`. Of a `WITH` the table of what stands last."""
        text, found = self.text, 1
        while found:
            text, found = _IN_BRACKETS.subn("", text)
        verb = _VERB.match(text)
        table = _TABLE.search(text) or _VERB.match(text, verb.end() if verb else 0)
        lock = " FOR UPDATE" if "FOR UPDATE" in text else ""
        name = f" {table[1]}" if table and verb and verb[1] not in _ENDS else ""
        return f"{verb[1] if verb else text}{name}{lock}"


def statement_of(connection: int, message: str, detail: str | None) -> Statement | None:
    """From what the server says of it with `log_statement=all`; None for all else that it says."""
    said = _SAID.fullmatch(message)
    if said is None:
        return None
    found = _PARAMETER.findall(detail or "")
    assert [int(number) for number, *_ in found] == list(range(1, len(found) + 1)), detail
    values = tuple(None if shown == "NULL" else text.replace("''", "'") for _, shown, text in found)
    return Statement(connection, said[1], values)


@contextmanager
def overheard(database_url: str) -> Iterator[list[Statement]]:
    """
    The statements of all psycopg connections that are opened to this database meanwhile, in their order.

    The server tells its clients what it executes (`client_min_messages=log`): a superuser's setting, of this database alone.
    """
    name = str(conninfo_to_dict(database_url)["dbname"])
    # By way of another database: a pooler would keep the session for later, and it has the settings of its beginning.
    with psycopg.connect(database_url, dbname="postgres", autocommit=True) as connection:
        for setting, value in (("log_statement", "all"), ("client_min_messages", "log")):
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)
                )
            )
    heard: list[Statement] = []
    connect = psycopg.AsyncConnection.connect
    numbers = iter(range(1, 1_000_000))

    async def listening(*arguments: Any, **named: Any) -> psycopg.AsyncConnection[Any]:
        connection = await connect(*arguments, **named)
        number = next(numbers)

        def hear(said: Diagnostic) -> None:
            statement = statement_of(number, said.message_primary or "", said.message_detail)
            if statement is not None:
                heard.append(statement)

        connection.add_notice_handler(hear)
        return connection

    try:
        with patch.object(psycopg.AsyncConnection, "connect", listening):
            yield heard
    finally:
        with psycopg.connect(database_url, dbname="postgres", autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(name)))


@contextmanager
def without_background() -> Iterator[None]:
    """Applications that are made meanwhile do nothing by themselves: all that is heard is a request's."""

    async def nothing(*_: object) -> None:
        pass

    with ExitStack() as stack:
        for name in _BACKGROUND:
            stack.enter_context(patch.object(main, name, nothing))
        yield


def transactions(statements: list[Statement]) -> list[list[Statement]]:
    """Those between BEGIN and COMMIT, without these two."""
    found: list[list[Statement]] = []
    current: list[Statement] | None = None
    for statement in statements:
        if statement.shape == "BEGIN":
            current = []
        elif statement.shape == "COMMIT" and current is not None:
            found.append(current)
            current = None
        elif current is not None:
            current.append(statement)
    return found
