"""The connection to PostgreSQL: the fair gate, transactions, and what is told when the database is away."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from app import db as db_module
from app.connecting import libpq_url
from app.db import Database, violated_constraint
from app.errors import DatabaseUnavailable
from app.models import Plan
from tests.builders import a_key, a_plan


@pytest.fixture
async def one(database_url: str) -> AsyncIterator[Database]:
    """A database with room for one unit of work at a time."""
    database = Database(database_url, pool_size=1)
    yield database
    await database.close()


@pytest.fixture
def another(direct_url: str) -> Iterator["psycopg.Connection[tuple[int]]"]:
    """Somebody else's connection to the same database."""
    with psycopg.connect(direct_url, autocommit=True) as connection:
        yield connection


async def backend_pid(connection: AsyncConnection) -> int:
    return int(await connection.scalar(text("SELECT pg_backend_pid()")) or 0)


def plans_seen_by(connection: "psycopg.Connection[tuple[int]]") -> int:
    row = connection.execute("SELECT count(*) FROM plans").fetchone()
    assert row
    return row[0]


def terminate(connection: "psycopg.Connection[tuple[int]]", pid: int) -> None:
    """Ends a backend, and waits until it has gone."""
    connection.execute("SELECT pg_terminate_backend(%s, 30000)", [pid])


def told_by(error: BaseException | None) -> str:
    """All that an error and its causes say, without the source lines that a traceback quotes."""
    return "" if error is None else f"{error}\n{error!r}\n" + told_by(error.__cause__ or error.__context__)


INSERT_PLAN = text(
    "INSERT INTO plans (sku, name, country_iso2, data_mb, validity_days, price_minor, currency) "
    "VALUES ('sku', 'Spain', 'ES', 1, 1, 1, 'EUR')"
)


async def insert_and_fail(database: Database, *, backend: int | None = None) -> None:
    async with database.begin() as connection:
        assert backend in (None, await backend_pid(connection))
        await connection.execute(INSERT_PLAN)
        raise ZeroDivisionError


# The gate


async def test_units_of_work_are_served_in_the_order_they_came(one: Database) -> None:
    served: list[int] = []

    async def unit(number: int) -> None:
        async with one.begin() as connection:
            served.append(number)
            await connection.execute(text("SELECT 1"))

    async with one.begin():
        waiting = []
        for number in range(20):
            waiting.append(asyncio.create_task(unit(number)))
            await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert served == list(range(20))


async def test_who_comes_when_a_place_comes_free_does_not_overtake_who_waits(one: Database) -> None:
    served: list[str] = []

    async def unit(name: str) -> None:
        async with one.read() as connection:
            served.append(name)
            await connection.execute(text("SELECT 1"))

    async with one.read():
        waiting = asyncio.create_task(unit("waited"))
        await asyncio.sleep(0)
    await unit("came later")
    await waiting
    assert served == ["waited", "came later"]


async def test_there_are_never_more_connections_than_the_pool_holds(
    database_url: str, another: "psycopg.Connection[tuple[int]]"
) -> None:
    database = Database(database_url, pool_size=3)

    async def unit() -> int:
        async with database.begin() as connection:
            await connection.execute(text("SELECT 1"))
            row = another.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tribi'"
            ).fetchone()
            assert row
            return row[0]

    counts = await asyncio.gather(*(unit() for _ in range(60)))
    await database.close()
    assert max(counts) == 3


async def test_who_gets_no_place_in_time_is_told_that_the_database_is_away(
    one: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db_module, "GATE_TIMEOUT_S", 0)
    async with one.begin():
        with pytest.raises(DatabaseUnavailable, match="no database connection came free in time"):
            async with one.begin():
                pass
    monkeypatch.undo()
    async with one.begin() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1


async def test_a_unit_that_takes_longer_than_it_may_is_told_that_the_database_is_away(one: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="the database has said nothing in time"):
        async with one.begin(within_s=0.01) as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))


async def test_a_unit_that_fails_by_a_timeout_of_its_own_says_so(one: Database) -> None:
    with pytest.raises(TimeoutError):
        async with one.begin(within_s=60):
            raise TimeoutError


async def test_waiting_for_its_turn_is_no_part_of_the_time_that_a_unit_may_take(
    one: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    within_s = 5

    async def unit() -> object:
        async with one.begin(within_s=within_s) as connection:
            return await connection.scalar(text("SELECT 1"))

    async with one.begin():
        waiting = asyncio.create_task(unit())
        await asyncio.sleep(0)
        now += within_s + 1
    assert await waiting == 1


async def test_a_connection_that_is_given_up_half_made_is_closed_without_the_garbage_collector() -> None:
    has_come, has_gone = asyncio.Event(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        has_come.set()
        await reader.read()
        has_gone.set()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        database = Database(f"postgresql://nobody@127.0.0.1:{port}/nothing?sslmode=disable")
        gc.disable()
        try:
            unit = asyncio.create_task(insert_and_fail(database))
            async with asyncio.timeout(30):
                await has_come.wait()
                unit.cancel()
                await asyncio.wait([unit])
                await has_gone.wait()
        finally:
            gc.enable()
        await database.close()


async def test_a_unit_cancelled_while_it_waits_leaves_its_place_to_the_next(one: Database) -> None:
    async def unit() -> int:
        async with one.begin() as connection:
            return int(await connection.scalar(text("SELECT 1")) or 0)

    async with one.begin():
        cancelled, next_one = asyncio.create_task(unit()), asyncio.create_task(unit())
        await asyncio.sleep(0)
        cancelled.cancel()
    assert await next_one == 1
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_a_unit_cancelled_at_work_gives_its_place_back_and_leaves_nothing(
    one: Database, another: "psycopg.Connection[tuple[int]]"
) -> None:
    async def unit() -> None:
        async with one.begin() as connection:
            await connection.execute(INSERT_PLAN)
            await connection.execute(text("SELECT pg_sleep(600)"))

    task = asyncio.create_task(unit())
    while not another.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchone():  # noqa: ASYNC110 - nothing tells us when
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with one.begin() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    assert plans_seen_by(another) == 0


async def test_a_unit_that_fails_gives_its_place_back(one: Database) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            async with one.begin():
                raise ZeroDivisionError
    async with one.begin() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1


# Transactions


async def test_begin_commits_at_its_end_and_not_before(
    one: Database, another: "psycopg.Connection[tuple[int]]"
) -> None:
    async with one.begin() as connection:
        await connection.execute(INSERT_PLAN)
        assert plans_seen_by(another) == 0
    assert plans_seen_by(another) == 1


async def test_begin_rolls_back_when_an_error_leaves_it(
    one: Database, another: "psycopg.Connection[tuple[int]]"
) -> None:
    with pytest.raises(ZeroDivisionError):
        await insert_and_fail(one)
    assert plans_seen_by(another) == 0


async def test_read_is_in_autocommit(one: Database, another: "psycopg.Connection[tuple[int]]") -> None:
    async with one.read() as connection:
        await connection.execute(INSERT_PLAN)
        assert plans_seen_by(another) == 1


async def test_a_connection_that_was_read_with_begins_transactions_again(
    one: Database, another: "psycopg.Connection[tuple[int]]"
) -> None:
    async with one.read() as connection:
        reader = await backend_pid(connection)
    with pytest.raises(ZeroDivisionError):
        await insert_and_fail(one, backend=reader)
    assert plans_seen_by(another) == 0


async def test_no_statement_is_prepared_on_the_server_unless_that_is_asked(one: Database) -> None:
    async with one.begin() as connection:
        for number in range(20):
            await connection.execute(text("SELECT :number + 1"), {"number": number})
    async with one.read() as connection:
        for number in range(20):
            await connection.execute(text("SELECT :number + 1"), {"number": number})
        assert await connection.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0


# The database is away


async def test_where_nobody_listens_the_database_is_away() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # taken, but nobody listens
        database = Database(f"postgresql://user:hunter2@127.0.0.1:{bound.getsockname()[1]}/name")
        with pytest.raises(DatabaseUnavailable) as away:
            async with database.begin() as connection:
                await connection.execute(text("SELECT 1"))
    assert len(str(away.value).splitlines()) == 1
    assert "hunter2" not in str(away.value)
    assert (away.value.http_status, away.value.retryable, away.value.retry_after_s) == (503, True, 2)


async def test_a_database_that_does_not_exist_is_away(database_url: str) -> None:
    database = Database(database_url.replace("/test_", "/no_test_"))
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        async with database.read() as connection:
            await connection.execute(text("SELECT 1"))


async def test_a_connection_lost_within_a_transaction_means_away_and_then_it_goes_on(
    one: Database, another: "psycopg.Connection[tuple[int]]"
) -> None:
    async def lose_the_connection() -> None:
        async with one.begin() as connection:
            await connection.execute(INSERT_PLAN)
            terminate(another, await backend_pid(connection))
            await connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        await lose_the_connection()
    async with one.begin() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM plans")) == 0


async def test_a_connection_lost_before_the_commit_means_away(
    one: Database, another: "psycopg.Connection[tuple[int]]"
) -> None:
    async def lose_the_connection() -> None:
        async with one.begin() as connection:
            await connection.execute(INSERT_PLAN)
            terminate(another, await backend_pid(connection))

    with pytest.raises(DatabaseUnavailable):
        await lose_the_connection()
    assert plans_seen_by(another) == 0


@pytest.mark.without_pgbouncer  # which hides that its sessions have ended
async def test_after_a_restart_of_the_server_one_unit_fails_and_the_pool_is_new(
    database_url: str, another: "psycopg.Connection[tuple[int]]"
) -> None:
    database = Database(database_url, pool_size=3)
    together = asyncio.Barrier(3)

    async def unit() -> int:
        async with database.begin() as connection:
            pid = await backend_pid(connection)
            await together.wait()  # so that each has a connection of its own
            return pid

    before = await asyncio.gather(*(unit() for _ in range(3)))
    for pid in before:
        terminate(another, pid)
    with pytest.raises(DatabaseUnavailable):
        async with database.begin() as connection:
            await connection.execute(text("SELECT 1"))
    after = await asyncio.gather(*(unit() for _ in range(3)))
    await database.close()
    assert set(before).isdisjoint(after)


# What an error tells


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("INSERT INTO service_keys (name, secret_hash, scopes) VALUES (:a, :b, '{nonsense}')", {"b": b"secret-hash"}),
        ("INSERT INTO service_keys (name, secret_hash, scopes) VALUES (:a, NULL, '{}')", {}),
        ("INSERT INTO audit_log (actor, tag, subject_type, details) VALUES (:a, :a, :a, '[')", {}),
        ("SELECT no_such_column FROM plans WHERE name = :a", {}),
    ],
    ids=["check", "not null", "bad value", "bad statement"],
)
async def test_an_error_repeats_no_value_of_the_statement(
    one: Database, statement: str, values: dict[str, object]
) -> None:
    with pytest.raises(DBAPIError) as failed:
        async with one.begin() as connection:
            await connection.execute(text(statement), {"a": "ana@example.com", **values})
    told = told_by(failed.value)
    for secret in ("ana@example.com", "secret-hash", b"secret-hash".hex()):
        assert secret not in told


async def test_an_error_repeats_no_value_of_a_row_that_is_there_already(one: Database) -> None:
    await a_plan(one, sku="ana@example.com")
    with pytest.raises(IntegrityError) as failed:
        await a_plan(one, sku="ana@example.com")
    told = told_by(failed.value)
    assert "ana@example.com" not in told
    assert "uq_plans_sku" in told


async def test_an_integrity_error_names_the_constraint_that_it_broke(one: Database) -> None:
    row = {"sku": "x", "name": "x", "country_iso2": "ES", "data_mb": 1, "validity_days": 1, "currency": "EUR"}
    with pytest.raises(IntegrityError) as failed:
        async with one.begin() as connection:
            await connection.execute(insert(Plan).values(**row, price_minor=-1))
    assert violated_constraint(failed.value) == "ck_plans_price_not_negative"


async def test_other_errors_break_no_constraint(one: Database) -> None:
    with pytest.raises(ProgrammingError) as failed:
        async with one.begin() as connection:
            await connection.execute(text("SELECT 1 FROM no_such_table"))
    assert violated_constraint(failed.value) is None


async def test_an_error_of_the_callers_own_leaves_as_it_is(one: Database) -> None:
    with pytest.raises(IntegrityError):
        async with one.begin() as connection:
            await connection.execute(
                text("INSERT INTO idempotency_keys (key, request_hash, order_id) VALUES ('', '', 1)")
            )
    await a_key(one)


# The URL


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_the_scheme_becomes_libpqs(scheme: str) -> None:
    assert libpq_url(f"{scheme}://user:p%40ss@host/name") == "postgresql://user:p%40ss@host/name"


async def test_the_url_is_read_as_libpq_reads_it(database_url: str) -> None:
    nobody_there_first = database_url.replace("?host=", "?host=/nobody/listens/here,")
    database = Database(nobody_there_first)
    async with database.read() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await database.close()


async def test_an_error_that_was_passed_over_is_no_commit(one: Database) -> None:
    """PostgreSQL answers such a COMMIT with ROLLBACK, and psycopg doesn't look."""

    async def go_on() -> None:
        async with one.begin() as connection:
            await connection.execute(INSERT_PLAN)
            with contextlib.suppress(IntegrityError):
                await connection.execute(INSERT_PLAN)

    with pytest.raises(RuntimeError, match="commits nothing of it"):
        await go_on()
    async with one.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM plans WHERE sku = 'sku'")) == 0
