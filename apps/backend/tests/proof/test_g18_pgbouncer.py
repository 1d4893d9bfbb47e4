"""
G18: `make test` runs every test that uses the shared database server once more through PgBouncer. Here it is seen that leftovers
would be noticed, and that a database that dies behind PgBouncer is told as away and comes back.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from app import schema
from app.db import Database
from app.postgres import hold
from tests.api.serving import a_name, a_wish
from tests.builders import a_plan
from tests.pgbouncer import POOL_SIZE, PgBouncer, pgbouncer_before
from tests.postgres.clients import a_folder, postmasters, wait_until
from tests.processes.installations import Installation, Server, an_installation
from tests.processes.programs import until


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """Of a database server that may be killed."""
    with a_folder() as folder:
        yield folder / "data"


@pytest.fixture(scope="module")
def pgbouncer(data_dir: Path) -> Iterator[PgBouncer]:
    with hold(data_dir) as server, pgbouncer_before(server.url) as started:
        schema.migrate(started.url)
        yield started


@pytest.fixture(scope="module")
async def site(pgbouncer: PgBouncer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    async with an_installation(tmp_path_factory.mktemp("site"), pgbouncer.url) as made:
        await made.stock()
        yield made


@pytest.fixture(scope="module")
async def server(site: Installation) -> Server:
    return await site.serve()


async def sells(server: Server, site: Installation, key: str) -> bool:
    placed = await server.shop.place(a_wish(site.sku), key=key)
    return placed.status == 201 and (await server.activate(placed.json()["id"])).status in {200, 201}


@pytest.mark.parametrize(
    ("leaves", "what"),
    [
        ("SET work_mem = '5MB'", "SET work_mem"),
        ("LISTEN somebody", "LISTEN somebody"),
        ("SELECT pg_advisory_lock(4711)", "advisory lock 4711"),
        ("PREPARE kept AS SELECT 1", "prepared statement kept"),
        ("CREATE TEMPORARY TABLE kept (number int)", "temporary table kept"),
    ],
)
def test_whatever_a_session_keeps_is_seen(pgbouncer: PgBouncer, leaves: LiteralString, what: str) -> None:
    with psycopg.connect(pgbouncer.url, autocommit=True) as connection:
        connection.execute(leaves)
    assert pgbouncer.left_over() == [f"tribi: {what}"]
    with psycopg.connect(pgbouncer.console, autocommit=True) as console:
        console.execute("RECONNECT")  # ends the session
    wait_until(lambda: not pgbouncer.connections()["tribi"])


async def test_any_number_of_connections_share_a_few_of_the_servers(pgbouncer: PgBouncer) -> None:
    many = [Database(pgbouncer.url, pool_size=10) for _ in range(4)]
    await asyncio.gather(*(a_plan(db, sku=a_name("sku")) for db in many for _ in range(10)))
    assert 1 <= pgbouncer.connections()["tribi"] <= POOL_SIZE
    for db in many:
        await db.close()


async def test_a_database_that_dies_behind_it_is_away_and_comes_back(
    site: Installation, server: Server, data_dir: Path, pgbouncer: PgBouncer
) -> None:
    for _ in range(3):
        [postmaster] = postmasters(data_dir / "postgres")
        os.kill(postmaster, signal.SIGKILL)
        replies = await asyncio.gather(*(server.get("/api/orders") for _ in range(20)))
        told = {reply.problem for reply in replies if reply.status != 200}
        assert told <= {(503, "database-unavailable")}

        await until(partial(sells, server, site, a_name("key")))
    assert pgbouncer.left_over() == []


async def test_the_work_of_a_server_leaves_nothing_in_any_session(
    site: Installation, server: Server, pgbouncer: PgBouncer
) -> None:
    order_ids = [await site.order() for _ in range(20)]
    replies = await asyncio.gather(*(server.activate(order_id) for order_id in order_ids for _ in range(2)))
    assert {reply.status for reply in replies} == {200, 201}
    await until(lambda: len(site.mails()) >= len(order_ids))
    assert pgbouncer.left_over() == []


async def test_tribi_migrate_works_through_it(pgbouncer: PgBouncer, site: Installation) -> None:
    with psycopg.connect(pgbouncer.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
    done = await site.run("migrate", DATABASE_URL=pgbouncer.url.replace("/tribi?", "/fresh?"))
    assert done.status == 0, done.stderr
    assert f"at revision {schema.head()}" in done.stdout
    assert pgbouncer.left_over() == []
