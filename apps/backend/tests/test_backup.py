"""`app.backup`: a dump is whole and private or not there at all, and a restore loses nothing."""

import stat
from pathlib import Path

import psycopg
import pytest

from app.backup import BackupFailed, dump, restore
from app.db import Database
from tests.builders import an_order
from tests.conftest import other_database

PASSWORD = "canary%2Fpassword"


@pytest.fixture
def empty_url(direct_url: str) -> str:
    """A database without anything in it, gone with the test's own."""
    name = f"{psycopg.conninfo.conninfo_to_dict(direct_url)['dbname']}_empty"
    with psycopg.connect(other_database(direct_url, "postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}".encode())
        connection.execute(f"CREATE DATABASE {name}".encode())
    return other_database(direct_url, name)


def orders(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute("SELECT id, customer_email, plan_snapshot FROM orders ORDER BY id").fetchall()


async def test_what_is_restored_is_what_was_dumped(
    db: Database, direct_url: str, empty_url: str, tmp_path: Path
) -> None:
    await an_order(db)
    size = dump(direct_url, tmp_path / "dump")
    await an_order(db)
    restore(empty_url, tmp_path / "dump")
    assert orders(empty_url) == orders(direct_url)[:1]
    assert size == (tmp_path / "dump").stat().st_size > 0


async def test_a_migrated_database_without_orders_may_be_restored_into(
    db: Database, direct_url: str, empty_url: str, tmp_path: Path
) -> None:
    dump(direct_url, tmp_path / "before")
    restore(empty_url, tmp_path / "before")
    await an_order(db)
    dump(direct_url, tmp_path / "after")
    restore(empty_url, tmp_path / "after")
    assert orders(empty_url) == orders(direct_url)


async def test_orders_are_never_overwritten(db: Database, direct_url: str, tmp_path: Path) -> None:
    dump(direct_url, tmp_path / "dump")
    await an_order(db)
    before = orders(direct_url)
    with pytest.raises(BackupFailed, match="holds orders, which would be lost"):
        restore(direct_url, tmp_path / "dump")
    assert orders(direct_url) == before


def test_only_its_owner_can_read_a_dump(direct_url: str, tmp_path: Path) -> None:
    dump(direct_url, tmp_path / "dump")
    assert stat.S_IMODE((tmp_path / "dump").stat().st_mode) == 0o600


def test_a_dump_that_fails_leaves_nothing_and_does_not_tell_the_password(tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="pg_dump: error:") as failed:
        dump(f"postgresql://tribi:{PASSWORD}@/none?host={tmp_path}", tmp_path / "dump")
    assert "canary" not in str(failed.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(direct_url: str, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="No such file or directory"):
        dump(direct_url, tmp_path / "none" / "dump")


def test_what_is_no_dump_changes_nothing(empty_url: str, tmp_path: Path) -> None:
    (tmp_path / "dump").write_text("no dump")
    with pytest.raises(BackupFailed, match="pg_restore: error:"):
        restore(empty_url, tmp_path / "dump")
