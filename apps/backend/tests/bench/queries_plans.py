"""
The plans by which PostgreSQL has done what it was asked, taken from the server itself while it does it.

`auto_explain` tells each session the plan of every statement with the rows and blocks it has read: with its real parameters, and
inside functions, triggers and foreign keys, too. So no statement is copied, and none is run only to be explained.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import event

from app.db import Database
from tests.bench.crowd_rows import TABLES

GROWING = frozenset(rows.table for rows in TABLES) | {"forgotten_attempts"}
"""Tables that grow with the orders, or with the time."""

_TELL = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
    "auto_explain.log_parameter_max_length": "0",
    "jit": "off",
}
_BLOCKS_A_ROW, _BLOCKS_MORE = 8, 80
"""A row costs an index's few levels and its page; what reads much more has thrown rows away unseen, within an index."""


@dataclass(frozen=True, slots=True)
class Told:
    """A statement's plan, and in which query of the register it was run."""

    query: str
    statement: str
    plan: dict[str, Any] = field(repr=False)

    @property
    def nodes(self) -> Iterator[dict[str, Any]]:
        waiting = [self.plan]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", ())

    @property
    def rows_read(self) -> int:
        """Of growing tables, those that were thrown away included."""
        return round(sum(map(_rows_of, self.nodes)))

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}

    @property
    def read_whole(self) -> list[str]:
        """Growing tables that it has read from one end to the other."""
        return [node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan" and _rows_of(node)]

    def faults(self, most_rows: int) -> Iterator[str]:
        """
        What grows with the table.

        Args:
            most_rows: so many may be read; by whatever plan, where a table has no more.
        """
        if self.rows_read > most_rows:
            whole = f", all of {', '.join(self.read_whole)}" if self.read_whole else ""
            yield f"reads {self.rows_read} rows{whole}, and {most_rows} would do"
        for node in self.nodes:
            blocks = node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0)
            if _is_scan(node) and blocks > _BLOCKS_MORE + _BLOCKS_A_ROW * (_rows_of(node) + node["Actual Loops"]):
                yield f"reads {blocks} blocks of {node['Relation Name']} for {_rows_of(node):.0f} rows"


def _is_scan(node: dict[str, Any]) -> bool:
    return node.get("Relation Name") in GROWING and "Scan" in node["Node Type"]


def _rows_of(node: dict[str, Any]) -> float:
    if not _is_scan(node):
        return 0
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    loops: float = node["Actual Loops"]
    return float(node["Actual Rows"] + removed) * loops


class PlanWatch:
    """Takes down what the sessions that it listens to are told."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._query = ""

    @contextmanager
    def query(self, name: str) -> Iterator[None]:
        """All that is told meanwhile belongs to it."""
        self._query = name
        try:
            yield
        finally:
            self._query = ""

    def listen(self, db: Database) -> None:
        """To the connections that it will make; its URL must be one of `telling`."""
        engine = db._engine.sync_engine  # noqa: SLF001 - where a connection can be seen as it is made

        def connected(adapted: Any, _record: object) -> None:
            adapted.driver_connection.add_notice_handler(self.take)

        event.listen(engine, "connect", connected)

    def take(self, notice: psycopg.errors.Diagnostic) -> None:
        """A notice of the server."""
        said = notice.message_primary or ""
        if self._query and "plan:\n" in said:
            explained = json.loads(said.partition("plan:\n")[2])
            self.told.append(Told(self._query, " ".join(explained["Query Text"].split()), explained["Plan"]))


def telling(url: str, **settings: str) -> str:
    """
    The URL for sessions that tell their plans; only a superuser's may.

    Args:
        settings: PostgreSQL's, besides.
    """
    options = " ".join(f"-c {name}={value}" for name, value in (_TELL | settings).items())
    return url_of(make_conninfo(url, options=options))


def url_of(conninfo: str) -> str:
    parts = conninfo_to_dict(conninfo)
    from urllib.parse import quote, urlencode

    rest = {name: value for name, value in parts.items() if name not in {"user", "dbname"}}
    return f"postgresql://{quote(str(parts['user']))}@/{quote(str(parts['dbname']))}?{urlencode(rest, quote_via=quote)}"
