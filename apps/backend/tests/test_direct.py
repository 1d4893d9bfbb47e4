"""Statements that psycopg runs itself: the same rows, and the same errors, as SQLAlchemy gives."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import JSON, Float, Integer, Numeric, bindparam, column, insert, literal, select, table, text, update
from sqlalchemy.exc import IntegrityError, ProgrammingError

from app.audit import RECORD, Tag, entry
from app.connecting import connect, connect_arguments
from app.db import Database, driver_of, violated_constraint
from app.direct import Direct
from app.errors import DatabaseUnavailable
from app.models import AuditEntry, EsimProfile, ServiceKey
from app.services.esims.esim import COLUMNS
from app.vault import Vault
from tests.builders import a_key, an_order, provisioned
from tests.test_db import backend_pid, terminate


@pytest.fixture
def another(direct_url: str) -> Any:
    with psycopg.connect(direct_url, autocommit=True) as connection:
        yield connection


async def test_a_row_is_as_sqlalchemy_gives_it(db: Database, vault: Vault) -> None:
    order_id = await an_order(db)
    await provisioned(db, vault, [order_id])
    statement = select(*COLUMNS).where(EsimProfile.order_id == bindparam("order_id"))
    async with db.begin() as connection:
        told = datetime(2026, 11, 20, 10, 0, 0, 123456, tzinfo=UTC)
        odd = {"data_used_mb": 0.1, "data_total_mb": 5120.0, "usage_at": told, "warnings": ["iccid-odd", "é%"]}
        await connection.execute(update(EsimProfile).where(EsimProfile.order_id == order_id).values(odd))
    async with db.read() as connection:
        row = await Direct(statement).one_or_none(connection, {"order_id": order_id})
        same = (await connection.execute(statement, {"order_id": order_id})).one()
        assert row._asdict() == same._asdict()
        assert [type(value) for value in row] == [type(value) for value in same]
        assert await Direct(statement).one_or_none(connection, {"order_id": 0}) is None


async def test_values_go_in_as_sqlalchemy_sends_them(db: Database) -> None:
    details = {"name": "50 % off %(name)s", "scopes": ["a"], "none": None}
    async with db.begin() as connection:
        await Direct(RECORD).run(connection, entry("test", Tag.KEY_CREATED, "service_keys", None, **details))
    async with db.read() as connection:
        query = select(AuditEntry.details, AuditEntry.subject_id).order_by(AuditEntry.id.desc()).limit(1)
        assert tuple((await connection.execute(query)).one()) == (details, None)


async def test_constants_stand_in_the_statement(db: Database) -> None:
    async with db.read() as connection:
        row = await Direct(
            select(literal("100 %").label("told"), bindparam("one", type_=JSON).label("one"))
        ).one_or_none(connection, {"one": {"a": 1}})
    assert (row.told, row.one) == ("100 %", {"a": 1})


async def test_a_value_that_is_missing_is_a_mistake(db: Database) -> None:
    async with db.read() as connection:
        with pytest.raises(ProgrammingError, match="query parameter missing"):
            await Direct(select(bindparam("needed"))).run(connection, {})


def test_what_psycopg_would_give_otherwise_than_sqlalchemy_is_refused() -> None:
    Direct(select(column("mb", Float())))
    with pytest.raises(TypeError, match="mb isn't what psycopg makes of it"):
        Direct(select(column("mb", Numeric())))


async def test_a_broken_constraint_is_told_of_without_its_values(db: Database) -> None:
    _, _ = await a_key(db)
    same = Direct(
        insert(ServiceKey).from_select(
            ["name", "secret_hash", "scopes"], select(ServiceKey.name, ServiceKey.secret_hash, ServiceKey.scopes)
        )
    )
    with pytest.raises(IntegrityError) as caught:
        async with db.begin() as connection:
            await same.run(connection, {})
    assert violated_constraint(caught.value) == "uq_service_keys_secret_hash"
    assert "already exists" not in f"{caught.value} {caught.value.orig}"
    async with db.read() as connection:  # which was rolled back, and is used on
        assert await connection.scalar(text("SELECT 1")) == 1


@pytest.mark.without_pgbouncer  # which hides that its sessions have ended
async def test_a_connection_that_is_lost_is_the_database_away_and_no_other_unit_is_given_it(
    database_url: str, another: "psycopg.Connection[tuple[int]]"
) -> None:
    one = Database(database_url, pool_size=1)
    ask = Direct(select(literal(1).label("one")))
    try:
        for unit in (one.read, one.begin):
            async with unit() as connection:
                lost = await backend_pid(connection)
            terminate(another, lost)
            with pytest.raises(DatabaseUnavailable):
                async with unit() as connection:
                    await ask.run(connection, {})
            async with unit() as connection:
                assert (await ask.one_or_none(connection, {})).one == 1
                assert await backend_pid(connection) != lost
    finally:
        await one.close()


async def test_a_server_that_only_reads_is_away_and_its_connection_goes(database_url: str) -> None:
    """A primary that has become a standby."""
    one = Database(database_url, pool_size=1)

    async def write() -> None:
        async with one.begin() as connection:
            await connection.execute(text("SET TRANSACTION READ ONLY"))
            await Direct(RECORD).run(connection, entry("test", Tag.KEY_CREATED, "service_keys", None))

    try:
        async with one.read() as connection:
            before = await backend_pid(connection)
        with pytest.raises(DatabaseUnavailable):
            await write()
        async with one.read() as connection:
            assert await backend_pid(connection) != before
    finally:
        await one.close()


PREPARED = text("SELECT name FROM pg_prepared_statements")


@pytest.mark.without_pgbouncer
async def test_the_server_keeps_each_statement_parsed_and_planned(database_url: str) -> None:
    one, another = (Database(database_url, pool_size=1) for _ in range(2))
    ask = Direct(select(bindparam("number", type_=Integer()).label("number")))
    names = []
    try:
        for database in (one, another):
            for number in range(3):
                async with database.begin() as connection:
                    assert (await ask.one_or_none(connection, {"number": number})).number == number
            async with database.read() as connection:
                names += list(await connection.scalars(PREPARED))
    finally:
        await one.close()
        await another.close()
    assert len(names) == len(set(names)) == 2


async def test_a_pooler_that_lends_sessions_is_seen_and_nothing_is_prepared(database_url: str) -> None:
    """tests/pgbouncer.py has a real one in front of this and all other tests of the database; this is what it is known by."""
    arguments = connect_arguments(database_url, "tests")
    own = await connect(**arguments)
    async with own, await connect(**arguments, may_prepare=False) as refused:
        assert refused.prepare_threshold is None
        is_own = own.info.backend_pid == (await (await own.execute("SELECT pg_backend_pid()")).fetchall())[0][0]
        assert (own.prepare_threshold is not None) == is_own


@pytest.mark.without_pgbouncer
async def test_a_pooler_that_passes_itself_off_as_a_server_is_away_once_and_then_nothing_is_prepared(
    database_url: str,
) -> None:
    one = Database(database_url, pool_size=1)
    ask = Direct(select(literal(1).label("one")))
    try:
        async with one.read() as connection:
            await ask.run(connection, {})
            # Behind psycopg's back: another session is lent, which knows nothing of it.
            await driver_of(connection).execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
        with pytest.raises(DatabaseUnavailable, match="InvalidSqlStatementName"):
            async with one.read() as connection:
                await ask.run(connection, {})
        async with one.read() as connection:
            for _ in range(3):
                await ask.run(connection, {})
            assert (await connection.execute(PREPARED)).all() == []
    finally:
        await one.close()


@pytest.mark.without_pgbouncer
async def test_a_table_that_is_altered_beneath_a_prepared_statement_costs_one_unit_its_connection(
    database_url: str, another: "psycopg.Connection[tuple[int]]"
) -> None:
    one = Database(database_url, pool_size=1)
    another.execute("CREATE TABLE altered (number integer)")
    look = Direct(select(column("number", Integer())).select_from(table("altered")))
    try:
        async with one.read() as connection:
            await look.run(connection, {})
        another.execute("ALTER TABLE altered ALTER number TYPE bigint")
        with pytest.raises(DatabaseUnavailable):
            async with one.read() as connection:
                await look.run(connection, {})
        async with one.read() as connection:
            assert await look.all(connection, {}) == []
    finally:
        await one.close()


async def test_it_belongs_to_the_transaction_that_sqlalchemy_has_begun(db: Database) -> None:
    async def write_and_fail() -> None:
        async with db.begin() as connection:
            await Direct(RECORD).run(connection, entry("nobody", Tag.KEY_CREATED, "service_keys", None))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write_and_fail()
    async with db.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM audit_log WHERE actor = 'nobody'")) == 0


async def test_a_unit_that_is_cancelled_leaves_no_connection_in_the_middle_of_a_statement(database_url: str) -> None:
    one = Database(database_url, pool_size=1)
    sleep = Direct(text("SELECT pg_sleep(30)"))
    try:

        async def unit() -> None:
            async with one.read() as connection:
                await sleep.run(connection, {})

        task = asyncio.create_task(unit())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with one.read() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
    finally:
        await one.close()
