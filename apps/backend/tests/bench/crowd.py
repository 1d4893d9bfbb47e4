"""
A shop with many orders and all that belongs to them: `python -m tests.bench.crowd --orders 10000000 --data FOLDER`.

For measuring what doesn't show with ten orders. Tables are written side by side by COPY, each in one transaction of its own
process; indexes and foreign keys are taken off before and put on afterwards. A foreign key that is put on looks at every row, so
what can't be is noticed.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from app.db import Database
from app.house import House
from app.models import Plan
from app.postgres import hold
from app.schema import migrate
from app.services.webhooks.endpoints import add_endpoint, change_endpoint
from app.settings import Settings
from app.vault import Keyring
from tests.bench.crowd_rows import ORDERS_FROM, TABLES, Crowd, Life, snapshot_line
from tests.bench.crowd_store import index_sizes, put_on, sizes, take_off
from tests.builders import a_key, a_plan

KEY = "YS1jcm93ZC1pcy1zZWFsZWQtd2l0aC10aGlzLTAwMDE="
"""The ENCRYPTION_KEY of crowds."""

BYTES_AN_ORDER = 4_600
"""Tables and indexes, and what their making needs for a while."""

_MARGIN = 200 * 1024**2
_LINES_AT_ONCE = 500
_TELL_EVERY_S = 15
_SHOPS, _PLANS = 5, 20


class NoRoom(Exception):
    """`str()` says how much there is and how much it takes: of the disk, or of the orders."""


def check_stock(orders: int, stock: int) -> None:
    """
    Raises:
        NoRoom: every fourth order waits, and there aren't so many.
    """
    if 4 * stock > orders:
        raise NoRoom(
            f"of {orders:,} orders every fourth may wait to be activated: {orders // 4:,} at most, not {stock:,}"
        )


def check_room(folder: Path, orders: int) -> None:
    """
    Raises:
        NoRoom: the disk would be full.
    """
    free, needed = shutil.disk_usage(folder).free, orders * BYTES_AN_ORDER + _MARGIN
    if free < needed:
        raise NoRoom(
            f"{orders:,} orders take {needed / 1024**3:.0f} GB, and {folder} has {free / 1024**3:.0f} GB free: nothing was written"
        )


async def found(url: str, *, orders: int, days: float, stock: int) -> tuple[Crowd, str]:
    """
    The installation before its first order: shops, plans, and two endpoints, disabled.

    Returns:
        The crowd to come, and the secret of a key with all scopes.
    """
    settings = Settings(
        database_url=SecretStr(url),
        encryption_key=SecretStr(KEY),
        esim_provider="CONNECTED_YOU",
        connected_you_partner_id="p",
    )
    db = Database(url)
    try:
        house = House(settings, db, Keyring.parse(KEY))
        await house.settle()
        keys = [await a_key(db) for _ in range(_SHOPS)]
        skus = [await a_plan(db, sku=f"es-5gb-{n}", code=f"CY-ES-{n}") for n in range(_PLANS)]
        endpoints = []
        for events in ([], ["esim.provisioned"]):
            async with db.begin() as connection:
                endpoint, _ = await add_endpoint(
                    connection, house.keyring, "https://shop.example/hooks", events, allow_private=False, actor="crowd"
                )
                await change_endpoint(connection, endpoint.id, is_enabled=False, allow_private=False, actor="crowd")
            endpoints.append(endpoint.id)
        async with db.read() as connection:
            rows = (await connection.execute(Plan.__table__.select().where(Plan.sku.in_(skus)))).all()
        plans = [Plan(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's documented accessor
        snapshots = tuple((plan.id, snapshot_line(plan.plan_snapshot("CONNECTED_YOU", "CY-ES-5GB"))) for plan in plans)
        crowd = Crowd(
            house.keyring.keys[0],
            house.vault.fingerprint_key,
            orders,
            days,
            stock,
            tuple(key_id for key_id, _ in keys),
            snapshots,
            (endpoints[0], endpoints[1]),
            time.time(),
        )
        return crowd, keys[0][1]
    finally:
        await db.close()


def fill(url: str, crowd: Crowd, processes: int) -> None:
    """Writes the crowd into a database that has no orders."""
    tables = [rows.table for rows in TABLES]
    begun = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        taken_off = take_off(connection, tables)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for told in [pool.submit(_write, url, crowd, nth) for nth in range(len(TABLES))]:
            told.result()
        _tell(f"all rows: {time.monotonic() - begun:.0f} s")
        indexes = [one for one in taken_off if not one.is_foreign_key]
        by_table = [[one for one in indexes if one.table == table] for table in tables]
        for done in [pool.submit(put_on, url, one) for one in sorted(by_table, key=len, reverse=True)]:
            done.result()
        _tell(f"and indexes: {time.monotonic() - begun:.0f} s")
        for done in [pool.submit(put_on, url, [one]) for one in taken_off if one.is_foreign_key]:
            done.result()
        _tell(f"and foreign keys: {time.monotonic() - begun:.0f} s")
    _settle(url, tables)
    _tell(f"and ANALYZE: {time.monotonic() - begun:.0f} s")


def _settle(url: str, tables: Sequence[str]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for rows in TABLES:
            if rows.columns.startswith("id,"):
                connection.execute(
                    f"SELECT setval(pg_get_serial_sequence('{rows.table}', 'id'), greatest(max(id), 1)) FROM {rows.table}"  # noqa: S608 - names of our own tables
                )
        connection.execute(f"ANALYZE {', '.join(tables)}, plans, plan_codes, service_keys, webhook_endpoints")


def _write(url: str, crowd: Crowd, nth: int) -> None:
    """In a process of its own."""
    rows = TABLES[nth]
    begun = told_at = time.monotonic()
    count = 0
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        connection.execute("SET LOCAL synchronous_commit = off")
        # In the transaction that has truncated it a table needs no write-ahead log (with wal_level=minimal), and its rows are
        # written as VACUUM would leave them.
        connection.execute(f"TRUNCATE {rows.table}")
        with cursor.copy(f"COPY {rows.table} ({rows.columns}) FROM STDIN (FREEZE)") as copy:
            lines = chain.from_iterable(rows.of(crowd, Life(crowd, number)) for number in rows.of_orders(crowd))
            while batch := list(islice(lines, _LINES_AT_ONCE)):
                copy.write("\n".join(batch) + "\n")
                count += len(batch)
                if time.monotonic() - told_at > _TELL_EVERY_S:
                    told_at = time.monotonic()
                    _tell(f"{rows.table}: {count:,} so far, {count / (told_at - begun):,.0f} rows/s")
    took = time.monotonic() - begun
    _tell(f"{rows.table}: {count:,} rows in {took:.1f} s, {count / max(took, 0.001):,.0f} rows/s")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def make(url: str, *, orders: int, days: float = 730, stock: int = 0, processes: int = 1) -> dict[str, Any]:
    """
    Fills an empty database, which is migrated first.

    Returns:
        What somebody needs who then measures: the secret of a key, ranges of ids, and sizes in bytes.

    Raises:
        NoRoom: nothing was written.
    """
    check_stock(orders, stock)
    with psycopg.connect(url) as connection:
        folder = Path(str(connection.execute("SHOW data_directory").fetchone()[0]))  # type: ignore[index]  # it has one
    if folder.exists():  # else the server is another machine's
        check_room(folder, orders)
    migrate(url)
    crowd, secret = asyncio.run(found(url, orders=orders, days=days, stock=stock))
    fill(url, crowd, processes)
    tables = [rows.table for rows in TABLES]
    with psycopg.connect(url) as connection:
        of_tables, of_indexes = sizes(connection, tables), dict(index_sizes(connection, tables))
    waiting = crowd.stock_ids
    made: dict[str, Any] = {
        "orders": orders,
        "days": days,
        "stock": stock,
        "now": crowd.now,
        "keys": crowd.keys,
        "endpoints": crowd.endpoints,
        "key": secret,
        "esims": [1, orders],
        "order_ids": [1 + ORDERS_FROM, orders + ORDERS_FROM],
        "to_activate": [waiting.start + ORDERS_FROM, waiting.stop - 1 + ORDERS_FROM, waiting.step],
        "bytes_an_order": sum(size.heap + size.indexes for size in of_tables) // orders,
        "tables": {size.table: {"rows": size.rows, "heap": size.heap, "indexes": size.indexes} for size in of_tables},
        "indexes": of_indexes,
    }
    with psycopg.connect(url) as connection:
        connection.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                sql.Identifier(connection.info.dbname), sql.Literal(json.dumps(made))
            )
        )
    return made


def made_in(url: str) -> dict[str, Any]:
    """
    What `make` said of this database.

    Raises:
        ValueError: it has no crowd.
    """
    asked = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    with psycopg.connect(url) as connection:
        (said,) = connection.execute(asked).fetchone() or (None,)
    if said is None:
        raise ValueError("this database has no crowd: tests.bench.crowd makes one")
    made: dict[str, Any] = json.loads(said)
    return made


def without_wal(data: Path) -> None:
    """What is truncated and filled in one transaction then needs no write-ahead log: it is on disk at the commit itself."""
    with hold(data) as server, psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET wal_level = minimal")
        connection.execute("ALTER SYSTEM SET max_wal_senders = 0")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.crowd", description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--days", type=float, default=730, help="over which they were placed (default: %(default)s)")
    parser.add_argument(
        "--stock", type=int, default=0, help="so many of the newest wait to be activated (default: none)"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", type=Path, help="a folder for an embedded database of its own")
    where.add_argument("--url", help="an empty database of our own")
    given = parser.parse_args()
    of = {"orders": given.orders, "days": given.days, "stock": given.stock, "processes": given.processes}
    try:
        if given.url:
            made = make(given.url, **of)
        else:
            check_stock(given.orders, given.stock)
            check_room(given.data.absolute().parent, given.orders)
            without_wal(given.data)
            with hold(given.data) as server:
                made = make(server.url, **of)
    except NoRoom as why:
        sys.exit(str(why))
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
