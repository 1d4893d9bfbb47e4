"""A table's indexes and constraints taken off before it is filled, and put on again; and how large all of it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

_MEMORY = "1GB"
"""For sorting an index's entries."""

# A foreign key first, since what it points to can't go before; what is left is put on in the other order.
_ADDED = """
    SELECT conrelid::regclass::text, format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
           format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid)), contype = 'f'
    FROM pg_constraint WHERE contype IN ('f', 'p', 'u') AND (conrelid = ANY(%(tables)s::regclass[])
        OR contype = 'f' AND confrelid = ANY(%(tables)s::regclass[]))
    UNION ALL
    SELECT indrelid::regclass::text, format('DROP INDEX %%s', indexrelid::regclass), pg_get_indexdef(indexrelid), false
    FROM pg_index WHERE indrelid = ANY(%(tables)s::regclass[])
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
    ORDER BY 4 DESC
"""
_SIZES = """
    SELECT relname, reltuples::bigint, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class
    WHERE oid = ANY(%(tables)s::regclass[]) ORDER BY 3 DESC
"""
_INDEX_SIZES = """
    SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index
    WHERE indrelid = ANY(%(tables)s::regclass[]) ORDER BY 2 DESC
"""


@dataclass(frozen=True, slots=True)
class Addition:
    """An index or a constraint, and the statements that take it off and put it on."""

    table: str
    drop: str
    add: str
    is_foreign_key: bool


@dataclass(frozen=True, slots=True)
class Size:
    """In bytes; `rows` as ANALYZE estimates them."""

    table: str
    rows: int
    heap: int
    indexes: int


def take_off(connection: psycopg.Connection[Any], tables: Sequence[str]) -> list[Addition]:
    """All indexes and constraints of the tables, but checks. Returns what has to be put on again."""
    found = [Addition(*row) for row in connection.execute(_ADDED, {"tables": list(tables)})]
    for one in found:
        connection.execute(sql.SQL(one.drop))
    return found


def put_on(url: str, additions: Iterable[Addition]) -> None:
    """One after the other, in a session with memory for it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SET maintenance_work_mem = '{_MEMORY}'")
        for one in additions:
            connection.execute(one.add)


def sizes(connection: psycopg.Connection[Any], tables: Sequence[str]) -> list[Size]:
    """The largest first."""
    return [Size(*row) for row in connection.execute(_SIZES, {"tables": list(tables)})]


def index_sizes(connection: psycopg.Connection[Any], tables: Sequence[str]) -> list[tuple[str, int]]:
    """Names and bytes, the largest first."""
    return [(str(name), int(size)) for name, size in connection.execute(_INDEX_SIZES, {"tables": list(tables)})]
