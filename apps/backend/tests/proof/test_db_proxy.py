"""The proxy that the proof puts between the app and its database does what it claims, and counts nothing else."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from sqlalchemy import literal, select, text

from app.db import Database
from app.direct import Direct
from app.errors import DatabaseUnavailable
from tests.chaos.db_proxy import DatabaseProxy, ask
from tests.postgres.clients import BACKEND, wait_until
from tests.processes.programs import until

INSERT = "INSERT INTO audit_log (actor, tag, subject_type, details) VALUES (:actor, 'order.placed', 'orders', '{}')"
COUNT = "SELECT count(*) FROM audit_log WHERE actor = :actor"


@pytest.fixture
def proxy(database_url: str) -> Iterator[DatabaseProxy]:
    with DatabaseProxy(database_url) as started:
        yield started


@pytest.fixture
async def through(proxy: DatabaseProxy) -> AsyncIterator[Database]:
    database = Database(proxy.url, pool_size=4)
    yield database
    await database.close()


async def write(database: Database, actor: str) -> None:
    async with database.begin() as connection:
        await connection.execute(text(INSERT), {"actor": actor})


async def written(database: Database, actor: str) -> int:
    async with database.read() as connection:
        return int(await connection.scalar(text(COUNT), {"actor": actor}) or 0)


async def write_and_fail(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text(INSERT), {"actor": "zoe"})
        raise ZeroDivisionError


async def test_what_it_is_not_asked_to_lose_passes(proxy: DatabaseProxy, through: Database, db: Database) -> None:
    long = "x" * 300_000
    await asyncio.gather(*(write(through, f"a{number}{long}") for number in range(20)))
    async with through.read() as connection:
        rows = (await connection.execute(text("SELECT actor FROM audit_log"))).scalars().all()
    assert {len(row) for row in rows} == {len(long) + 2, len(long) + 3}
    assert proxy.counts() == {"connections": 4}


async def test_a_lost_commit_has_taken_place_and_its_client_is_not_told(
    proxy: DatabaseProxy, through: Database, db: Database
) -> None:
    proxy.ask("lose_commit", count_as="in a test")
    with pytest.raises(DatabaseUnavailable):
        await write(through, "zoe")
    assert await written(db, "zoe") == 1
    assert proxy.counts() == {"connections": 1, "lost_commits": 1, "in a test": 1}
    await write(through, "zoe")
    assert await written(through, "zoe") == 2


async def test_a_dropped_commit_has_not_taken_place_and_looks_the_same(
    proxy: DatabaseProxy, through: Database, db: Database
) -> None:
    proxy.ask("drop_commit")
    with pytest.raises(DatabaseUnavailable):
        await write(through, "zoe")
    assert await written(db, "zoe") == 0
    assert proxy.counts() == {"connections": 1, "dropped_commits": 1}


async def test_only_the_commit_of_a_transaction_that_matches_is_lost(
    proxy: DatabaseProxy, through: Database, db: Database
) -> None:
    proxy.ask("lose_commit", match="order-12(?!\\d)")
    await write(through, "order-123")
    await write(through, "order-1")
    assert proxy.counts()["lost_commits"] == 0
    with pytest.raises(DatabaseUnavailable):
        await write(through, "order-12")
    assert await written(db, "order-12") == 1


async def test_a_transaction_is_known_by_statements_that_were_prepared_before_it(
    proxy: DatabaseProxy, through: Database
) -> None:
    look = Direct(select(literal(1).label("known_by_this")))
    async with through.begin() as connection:
        await look.run(connection, {})
    proxy.ask("lose_commit", match="known_by_this")
    with pytest.raises(DatabaseUnavailable):
        async with through.begin() as connection:
            await look.run(connection, {})


async def test_only_the_commit_of_the_process_that_is_named_is_lost(proxy: DatabaseProxy, through: Database) -> None:
    proxy.ask("lose_commit", pid=1)
    await write(through, "zoe")
    assert proxy.counts()["lost_commits"] == 0
    proxy.ask("lose_commit", pid=os.getpid())
    with pytest.raises(DatabaseUnavailable):
        await write(through, "zoe")


async def test_a_read_and_a_rollback_leave_a_loss_waiting(proxy: DatabaseProxy, through: Database) -> None:
    proxy.ask("lose_commit")
    assert await written(through, "zoe") == 0
    with pytest.raises(ZeroDivisionError):
        await write_and_fail(through)
    assert proxy.ask("forget") == {"forgotten": 1}
    await write(through, "zoe")
    assert proxy.counts()["lost_commits"] == 0


async def test_the_commit_of_a_transaction_that_had_failed_is_not_one_that_was_lost(
    proxy: DatabaseProxy, database_url: str
) -> None:
    proxy.ask("lose_commit")
    with psycopg.connect(proxy.url, autocommit=True) as connection:
        connection.execute("BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("COMMIT")  # which rolls back
    assert proxy.counts()["lost_commits"] == 0
    assert proxy.ask("forget") == {"forgotten": 1}


async def test_a_cut_reaches_every_connection_and_the_next_ones_work(proxy: DatabaseProxy, through: Database) -> None:
    together = asyncio.Barrier(3)

    async def unit() -> None:
        async with through.begin() as connection:
            await connection.execute(text("SELECT 1"))
            await together.wait()

    await asyncio.gather(*(unit() for _ in range(3)))
    assert proxy.ask("cut") == {"cut": 3}
    assert proxy.counts()["cut"] == 3
    with pytest.raises(DatabaseUnavailable):
        await written(through, "zoe")
    assert await written(through, "zoe") == 0


async def test_while_it_refuses_newcomers_hear_that_the_server_is_starting_up(
    proxy: DatabaseProxy, through: Database
) -> None:
    proxy.ask("refuse", for_s=0.3)
    with pytest.raises(DatabaseUnavailable, match="starting up"):
        await written(through, "zoe")

    async def is_let_in() -> bool:
        try:
            return await written(through, "zoe") == 0
        except DatabaseUnavailable:
            return False

    await until(is_let_in)
    assert proxy.counts()["refused"] >= 1


async def test_while_it_stalls_nothing_passes_and_then_all_of_it_does(proxy: DatabaseProxy, through: Database) -> None:
    await write(through, "zoe")
    begun = time.monotonic()
    proxy.ask("stall", for_s=0.3)
    await asyncio.gather(write(through, "zoe"), write(through, "zoe"))
    assert time.monotonic() - begun >= 0.3
    assert proxy.counts()["held_up"] >= 2
    assert await written(through, "zoe") == 3


async def test_a_statement_may_be_cancelled_through_it(through: Database) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), through.begin() as connection:
            await connection.execute(text("SELECT pg_sleep(600)"))
    assert await written(through, "zoe") == 0


async def test_a_server_that_is_not_there_looks_so_through_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    with DatabaseProxy("postgresql://tribi@/tribi?host=/nobody/listens/here&port=5432") as proxy:
        database = Database(proxy.url)
        with pytest.raises(DatabaseUnavailable):
            await written(database, "zoe")


async def test_what_it_does_not_understand_is_refused_and_it_goes_on(proxy: DatabaseProxy) -> None:
    for command in ({"do": "dance"}, {"do": "stall"}, {"do": "lose_commit", "match": "("}):
        with pytest.raises(ValueError, match=r"no such command|for_s|unterminated"):
            ask(proxy.control, **command)
    assert proxy.counts() == {}


def test_it_ends_with_the_process_that_started_it(database_url: str) -> None:
    program = (
        "import sys, time; from tests.chaos.db_proxy import DatabaseProxy\n"
        "with DatabaseProxy(sys.argv[1]) as proxy: print(proxy.control, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, database_url], stdout=subprocess.PIPE, text=True, cwd=BACKEND
    ) as parent:
        assert parent.stdout is not None
        control = parent.stdout.readline().strip()
        assert ask(control, "counts") == {}
        parent.kill()

    def has_gone() -> bool:
        try:
            ask(control, "counts")
        except (OSError, ValueError):
            return True
        return False

    wait_until(has_gone)
