"""The database server, with settings of it really switched off."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text

from app import schema
from app.db import Database
from app.house import House
from app.services.doctor import database
from app.services.doctor.database import check_connections, check_durability, check_migrations, check_server
from app.settings import Settings
from app.vault import Keyring
from tests.conftest import KEY, other_database
from tests.services.doctor.conftest import a_house, settings_on, the_failure

LIMIT_S = 30


def told(url: str, *statements: str) -> None:
    name = str(conninfo_to_dict(url)["dbname"])
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.format(database=name).encode())


async def test_a_server_as_it_should_be_passes(house: House) -> None:
    [server] = await check_server(house)
    [durability] = await check_durability(house)
    [migrations] = await check_migrations(house)
    [connections] = await check_connections(house)
    assert (server.result.value, server.detail.endswith(", UTF8")) == ("passed", True)
    assert durability.result.value == "passed"
    assert (migrations.result.value, migrations.detail) == ("passed", f"at {schema.head()}, the newest")
    assert connections.result.value == "passed"
    assert connections.detail.startswith("1 process of up to 12 connections; the server gives ")


async def test_another_encoding_than_utf8_fails(server_url: str, direct_url: str, tmp_path: Path) -> None:
    name = f"{conninfo_to_dict(direct_url)['dbname']}_latin1"
    told(server_url, f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    url = other_database(server_url, name)
    house = House(settings_on(url, tmp_path), Database(url), Keyring.parse(KEY))
    failure = the_failure(await check_server(house))
    await house.db.close()
    told(server_url, f"DROP DATABASE {name} WITH (FORCE)")
    assert ", LATIN1: " in failure.detail


async def test_a_server_that_gets_no_corrections_any_more_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "OLDEST_VERSION", 99)  # there is but one server here
    assert "too old" in the_failure(await check_server(house)).detail


async def test_a_standby_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "SELECT 180000 AS number, '18.0' AS version, 'UTF8' AS encoding, true AS is_standby"
    monkeypatch.setattr(database, "_SERVER", text(said))  # no second server for one line
    assert "a standby" in the_failure(await check_server(house)).detail


@pytest.mark.parametrize(
    ("switch", "to_do"),
    [
        ("ALTER DATABASE {database} SET synchronous_commit = off", "ALTER DATABASE … RESET synchronous_commit"),
        (
            "ALTER ROLE CURRENT_USER IN DATABASE {database} SET synchronous_commit = off",
            "ALTER ROLE … RESET synchronous_commit",
        ),
    ],
)
async def test_commits_that_do_not_wait_for_the_disk_fail(settings: Settings, switch: str, to_do: str) -> None:
    assert settings.database_url is not None
    told(settings.database_url.get_secret_value(), switch)
    house = await a_house(settings)
    failure = the_failure(await check_durability(house))
    await house.db.close()
    assert failure.detail.startswith("synchronous_commit off: ")
    assert failure.to_do == to_do


async def test_commits_that_do_not_wait_because_the_url_says_so_fail(direct_url: str, tmp_path: Path) -> None:
    house = await a_house(settings_on(f"{direct_url}&options=-csynchronous_commit%3Doff", tmp_path))
    failure = the_failure(await check_durability(house))
    await house.db.close()
    assert failure.to_do == "take synchronous_commit out of DATABASE_URL"


@contextmanager
def switched_off(server_url: str, name: str) -> Iterator[None]:
    try:
        told(server_url, f"ALTER SYSTEM SET {name} = off", "SELECT pg_reload_conf()")
        _wait_for(server_url, name, "off")
        yield
    finally:
        told(server_url, f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()")
        _wait_for(server_url, name, "on")


def _wait_for(server_url: str, name: str, value: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        with psycopg.connect(server_url) as connection:
            if connection.execute(f"SHOW {name}".encode()).fetchone() == (value,):
                return
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
async def test_a_server_that_a_power_cut_sets_back_fails(server_url: str, settings: Settings, name: str) -> None:
    with switched_off(server_url, name):
        house = await a_house(settings)
        failure = the_failure(await check_durability(house))
        await house.db.close()
    assert failure.detail.startswith(f"{name} off: a power cut forgets")
    assert failure.to_do == f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()"


async def test_a_database_that_is_behind_fails(house: House, direct_url: str) -> None:
    schema.migrate(direct_url, "-1")
    failure = the_failure(await check_migrations(house))
    assert failure.to_do == "tribi migrate"
    assert f"this release is made for {schema.head()}" in failure.detail


async def test_a_database_that_is_ahead_fails(house: House, direct_url: str) -> None:
    told(direct_url, "UPDATE alembic_version SET version_num = '9999'")
    failure = the_failure(await check_migrations(house))
    assert "newer release" in str(failure.to_do)


async def test_more_connections_than_the_server_gives_fail(house: House, direct_url: str) -> None:
    told(direct_url, "ALTER DATABASE {database} CONNECTION LIMIT 11")
    failure = the_failure(await check_connections(house))
    assert failure.detail == "1 process of up to 12 connections, and the server gives only 11"
    told(direct_url, "ALTER DATABASE {database} CONNECTION LIMIT 12")
    [found] = await check_connections(house)
    assert found.result.value == "passed"


async def test_each_process_counts(house: House, direct_url: str) -> None:
    told(direct_url, *["INSERT INTO procrastinate_workers DEFAULT VALUES"] * 3)
    [found] = await check_connections(house)
    assert found.detail.startswith("3 processes of up to 12 connections; ")


async def test_a_pooler_is_seen(database_url: str, tmp_path: Path, is_through_pgbouncer: bool) -> None:
    house = await a_house(settings_on(database_url, tmp_path))
    [found] = await check_connections(house)
    await house.db.close()
    assert ("behind a pooler" in found.detail) == is_through_pgbouncer
