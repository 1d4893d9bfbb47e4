"""Opening an installation: its encryption keys, its database, and what must not be opened."""

import asyncio
import base64
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import delete, func, select, text

from app import house as house_module
from app import main, schema
from app.db import Database
from app.errors import ConfigurationError, DatabaseUnavailable
from app.house import House, load_keyring, open_house
from app.models import EncryptionKey, Installation
from app.postgres import EmbeddedPostgresError
from app.settings import BACKEND_DIR, Settings
from app.vault import Keyring, Place, Vault, key_id
from tests.conftest import KEY

A, B, C = (base64.b64encode(bytes([letter]) * 32).decode() for letter in b"ABC")
PLACE = Place("esim_profiles", "iccid", 1)


def a_house(db: Database, *keys: str) -> House:
    """As of a process that starts with these keys."""
    return House(Settings(), db, Keyring.parse(",".join(keys)))


async def start(db: Database, *keys: str) -> House:
    house = a_house(db, *keys)
    await house.settle()
    return house


async def names_on_file(db: Database) -> set[bytes]:
    async with db.read() as connection:
        return set(await connection.scalars(select(EncryptionKey.key_id)))


def name_of(key: str) -> bytes:
    return key_id(base64.b64decode(key))


# The key file of the embedded database


def test_a_key_is_made_once_beside_the_embedded_database(tmp_path: Path) -> None:
    settings = Settings(tribi_data_dir=tmp_path / "new" / "folder")
    keyring = load_keyring(settings)
    assert len(keyring.keys[0]) == 32
    assert load_keyring(settings).keys == keyring.keys
    assert [path.name for path in settings.tribi_data_dir.iterdir()] == ["encryption.key"]


def test_only_its_owner_reads_the_key_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_keyring(Settings(tribi_data_dir=tmp_path))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "encryption.key").stat().st_mode) == 0o600


def test_two_installations_have_two_keys(tmp_path: Path) -> None:
    first, second = (load_keyring(Settings(tribi_data_dir=tmp_path / name)) for name in ("a", "b"))
    assert first.keys != second.keys


def test_processes_that_start_first_at_once_end_with_one_key(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from app.house import load_keyring
from app.settings import Settings
wait, go = os.pipe()
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(wait, 1)  # until the parent closes its end
        os.write(1, load_keyring(Settings(tribi_data_dir=Path(sys.argv[1]))).keys[0].hex().encode() + b"\\n")
        os._exit(0)
    children.append(child)
os.close(go)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    done = subprocess.run(command, cwd=BACKEND_DIR, capture_output=True, text=True, check=True)
    key = base64.b64decode((tmp_path / "data" / "encryption.key").read_text()).hex()
    assert done.stdout.splitlines() == [key] * 8
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["encryption.key"]


def test_a_key_made_by_another_process_meanwhile_is_the_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def somebody_was_quicker(draft: Path, path: Path) -> None:
        path.write_text(A)
        raise FileExistsError

    monkeypatch.setattr(os, "link", somebody_was_quicker)
    assert load_keyring(Settings(tribi_data_dir=tmp_path)).keys == Keyring.parse(A).keys
    assert [path.name for path in tmp_path.iterdir()] == ["encryption.key"]


def test_a_process_with_the_number_of_one_that_died_writes_no_key_over_another(tmp_path: Path) -> None:
    """Died between the key's link and the draft's removal; a container's first process has the same number each time."""
    keyring = load_keyring(Settings(tribi_data_dir=tmp_path))
    key_file = tmp_path / "encryption.key"
    (tmp_path / f".encryption.key.{os.getpid()}").hardlink_to(key_file)
    house_module._make_key_file(key_file)  # noqa: SLF001 - as if it had looked a moment before the other's link
    assert load_keyring(Settings(tribi_data_dir=tmp_path)).keys == keyring.keys


@pytest.mark.parametrize("content", ["", "not base64!", base64.b64encode(bytes(16)).decode(), "\udcff"])
def test_a_key_file_that_holds_no_key_stops_the_start(content: str, tmp_path: Path) -> None:
    path = tmp_path / "encryption.key"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match=rf"^the encryption key cannot be had from {path}: "):
        load_keyring(Settings(tribi_data_dir=tmp_path))


def test_a_data_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="the encryption key cannot be had from"):
        load_keyring(Settings(tribi_data_dir=tmp_path / "file" / "data"))


def test_the_setting_goes_before_the_key_file(tmp_path: Path) -> None:
    settings = Settings(tribi_data_dir=tmp_path, encryption_key=SecretStr(f"{A},{B}"))
    assert load_keyring(settings).keys == Keyring.parse(f"{A},{B}").keys
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_ones_own_needs_a_key_of_ones_own(tmp_path: Path) -> None:
    settings = Settings(tribi_data_dir=tmp_path, database_url=SecretStr("postgresql://host/name"))
    with pytest.raises(ConfigurationError, match=r"^ENCRYPTION_KEY: required .*`openssl rand -base64 32` makes one"):
        load_keyring(settings)
    assert list(tmp_path.iterdir()) == []


# Keys and the database that was sealed with them


async def test_the_first_start_puts_the_keys_name_and_a_fingerprint_key_on_file(db: Database) -> None:
    await start(db, A)
    assert await names_on_file(db) == {name_of(A)}
    async with db.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(Installation)) == 1


async def test_each_start_has_the_same_fingerprints(db: Database) -> None:
    first, second = await start(db, A), await start(db, A)
    assert first.vault.fingerprint("iccid", "89") == second.vault.fingerprint("iccid", "89")


async def test_a_start_with_another_key_stops_and_leaves_nothing(db: Database) -> None:
    await start(db, A)
    with pytest.raises(ConfigurationError, match=rf"^ENCRYPTION_KEY: .*sealed with another key \({name_of(A).hex()}\)"):
        await start(db, B)
    assert await names_on_file(db) == {name_of(A)}


async def test_a_start_with_another_key_tells_neither_key(db: Database) -> None:
    await start(db, A)
    with pytest.raises(ConfigurationError) as stopped:
        await start(db, B)
    for secret in (A, B, base64.b64decode(A).hex(), base64.b64decode(B).hex()):
        assert secret not in str(stopped.value)


async def test_a_new_key_in_front_of_the_old_one_rotates(db: Database) -> None:
    old = await start(db, A)
    sealed_before = old.vault.seal_text("before", PLACE)
    both = await start(db, B, A)
    sealed_after = both.vault.seal_text("after", PLACE)
    assert await names_on_file(db) == {name_of(A), name_of(B)}
    again = await start(db, B, A)
    assert (again.vault.open_text(sealed_before, PLACE), again.vault.open_text(sealed_after, PLACE)) == (
        "before",
        "after",
    )
    assert again.vault.fingerprint("iccid", "89") == old.vault.fingerprint("iccid", "89")


@pytest.mark.parametrize("alone", [A, B], ids=["the old one", "the new one"])
async def test_after_a_rotation_neither_key_is_enough_alone(db: Database, alone: str) -> None:
    """Rows sealed with either may be there: the old ones with the old key, what was sealed since with the new."""
    await start(db, A)
    await start(db, B, A)
    with pytest.raises(ConfigurationError, match="sealed with another key"):
        await start(db, alone)


async def test_a_key_that_only_opens_is_not_put_on_file_and_may_be_taken_away(db: Database) -> None:
    await start(db, A, B)
    assert await names_on_file(db) == {name_of(A)}
    await start(db, A)
    with pytest.raises(ConfigurationError):
        await start(db, B)


async def test_the_order_of_the_keys_may_change(db: Database) -> None:
    await start(db, A)
    await start(db, B, A)
    await start(db, A, B)
    await start(db, C, A, B)
    assert await names_on_file(db) == {name_of(A), name_of(B), name_of(C)}


async def test_first_starts_with_one_key_at_once_agree(db: Database) -> None:
    houses = await asyncio.gather(*(start(db, A) for _ in range(8)))
    assert len({house.vault.fingerprint("iccid", "89") for house in houses}) == 1


async def test_of_first_starts_with_different_keys_at_once_one_wins_and_the_others_leave_nothing(
    db: Database,
) -> None:
    keys = [base64.b64encode(bytes([number]) * 32).decode() for number in range(6)]
    results = await asyncio.gather(*(start(db, key) for key in keys), return_exceptions=True)
    winners = [key for key, result in zip(keys, results, strict=True) if isinstance(result, House)]
    assert len(winners) == 1
    assert all(isinstance(result, House | ConfigurationError) for result in results)
    assert await names_on_file(db) == {name_of(winners[0])}
    await start(db, winners[0])


async def test_an_installation_row_moved_from_elsewhere_stops_the_start(db: Database) -> None:
    """As after a restore that mixed two databases."""
    await start(db, A)
    async with db.begin() as connection:
        await connection.execute(delete(EncryptionKey))
    with pytest.raises(ConfigurationError, match=r"^ENCRYPTION_KEY: installation\.fingerprint_key: "):
        await start(db, B)


async def test_before_it_has_settled_a_house_has_no_vault(db: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        _ = a_house(db, A).vault


# The database


def settings_with(url: str) -> Settings:
    return Settings(database_url=SecretStr(url), encryption_key=SecretStr(A))


async def opened(settings: Settings, *, wait_for_database: bool = True) -> House:
    async with open_house(settings, wait_for_database=wait_for_database) as house:
        return house


async def test_an_open_house_is_settled(database_url: str) -> None:
    async with open_house(settings_with(database_url)) as house:
        assert len(house.vault.fingerprint("iccid", "89")) == 16


async def test_a_closed_house_holds_no_connection(database_url: str, db: Database) -> None:
    await opened(settings_with(database_url))
    async with db.read() as connection:
        others = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        while await connection.scalar(others):  # noqa: ASYNC110 - nothing tells us when
            await asyncio.sleep(0.01)  # a backend takes a moment to end


async def test_a_database_that_is_not_migrated_names_the_command(database_url: str) -> None:
    schema.migrate(database_url, "base")
    with pytest.raises(DatabaseUnavailable, match="`tribi migrate`"):
        await opened(settings_with(database_url))


async def test_a_server_may_start_before_the_database_is_migrated(database_url: str) -> None:
    schema.migrate(database_url, "base")
    async with open_house(settings_with(database_url), wait_for_database=False) as house:
        with pytest.raises(DatabaseUnavailable):
            await house.settle()
        schema.migrate(database_url)
        await house.settle()
        assert len(house.vault.fingerprint("iccid", "89")) == 16


async def test_a_server_may_start_before_its_database() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # taken, but nobody listens
        url = f"postgresql://127.0.0.1:{bound.getsockname()[1]}/tribi"
        with pytest.raises(DatabaseUnavailable):
            await opened(settings_with(url))
        house = await opened(settings_with(url), wait_for_database=False)
        with pytest.raises(DatabaseUnavailable):
            _ = house.vault


async def test_a_wrong_key_stops_a_server_too(database_url: str, db: Database) -> None:
    await start(db, B)
    with pytest.raises(ConfigurationError):
        await opened(settings_with(database_url), wait_for_database=False)


async def test_a_user_who_may_not_read_the_tables_is_not_told_to_migrate(database_url: str, db: Database) -> None:
    async with db.begin() as connection:
        await connection.execute(text("CREATE ROLE nobody_special LOGIN"))
    try:
        url = database_url.replace("://tribi@", "://nobody_special@")
        assert url != database_url
        with pytest.raises(DatabaseUnavailable, match="permission denied"):
            await opened(settings_with(url))
    finally:
        async with db.begin() as connection:
            await connection.execute(text("DROP ROLE nobody_special"))


async def test_an_embedded_database_that_cannot_start_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot_hold(data_dir: Path) -> None:
        raise EmbeddedPostgresError("no room")

    monkeypatch.setattr(house_module, "hold", cannot_hold)
    with pytest.raises(ConfigurationError, match="no room"):
        await opened(Settings(tribi_data_dir=tmp_path))


async def test_an_embedded_database_is_migrated_by_itself(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ALease:
        url = database_url
        is_released = False

        def release(self) -> None:
            self.is_released = True

    lease = ALease()
    monkeypatch.setattr(house_module, "hold", lambda _: lease)
    schema.migrate(database_url, "base")
    async with open_house(Settings(tribi_data_dir=tmp_path)) as house:
        async with house.db.read() as connection:
            assert await schema.current_revision(connection) == schema.head()
        assert not lease.is_released
    assert lease.is_released


async def test_a_server_tries_to_settle_until_it_has_whatever_went_wrong(
    settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start in the middle of a failover may meet any error; a server that gave up would turn every request away for ever."""
    settle, errors = House.settle, iter([DatabaseUnavailable("away"), RuntimeError("whatever")])

    async def troubled(house: House) -> None:
        for error in errors:
            raise error
        await settle(house)

    monkeypatch.setattr(House, "settle", troubled)
    monkeypatch.setattr(main, "_SETTLE_INTERVAL_S", 0)
    house = House(settings, db, Keyring.parse(KEY))
    await main._settle(house)  # noqa: SLF001 - what a server does beside serving
    assert isinstance(house.vault, Vault)
