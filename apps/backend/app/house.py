"""What every entrance needs: the settings, the database, the vault and the provider, opened together and closed together."""

import asyncio
import os
import secrets
from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import structlog
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import ProgrammingError

from app import schema
from app.db import Database, reason_of
from app.encryption_keys import keys_on_file, say_in_use
from app.errors import ConfigurationError, DatabaseUnavailable
from app.held import hold_if_older
from app.journal import Journal, newest_of
from app.models import Installation
from app.postgres import EmbeddedPostgresError, hold
from app.settings import Settings
from app.vault import CannotOpen, Keyring, Place, Vault

log = structlog.get_logger()

_FINGERPRINT_KEY = Place(Installation.__tablename__, "fingerprint_key", 1)
KEY_FILE = "encryption.key"
"""Of the embedded database, in TRIBI_DATA_DIR."""

_BIND_WITHIN_S = 10


@dataclass
class House:
    """An open installation."""

    settings: Settings
    db: Database
    keyring: Keyring
    _vault: Vault | None = None
    journal: Journal | None = None
    """This process's own; None where nothing that costs money is sent, and before the house is settled."""
    identity: str = ""
    """Of the database; empty before the house is settled."""

    @property
    def vault(self) -> Vault:
        """
        Raises:
            DatabaseUnavailable: the database hasn't been reached yet, or isn't migrated.
        """
        if self._vault is None:
            raise DatabaseUnavailable("the database isn't there yet, or not migrated")
        return self._vault

    async def keep_key(self) -> None:
        """
        Says that this process still seals with the first of its keys, so that no rotation forgets it; called every few seconds.

        Raises:
            DatabaseUnavailable: the database is away.
        """
        if self._vault is None:
            return
        key_id = self.keyring.key_ids[0]
        async with self.db.read() as connection:
            was_on_file = await say_in_use(connection, key_id)
        if not was_on_file:
            # It was asleep while a rotation took its key for unused: what it has sealed since needs that key again.
            log.error("secrets.forgotten_key_in_use", key=key_id.hex(), effect="no start goes without it again")

    async def settle(self) -> None:
        """
        Binds the encryption keys to the database, and compares it with this machine's intent journal (`app.held`).

        Raises:
            ConfigurationError: it was sealed with a key that ENCRYPTION_KEY doesn't hold, or the journal can't be read.
            DatabaseUnavailable: it is away, or not migrated; try again.
        """
        if self._vault is not None:
            return
        vault, self.identity = await _bind(self.db, self.keyring, self.settings.order_id_start)
        folder = self.settings.journal_dir / self.identity
        try:
            newest = await asyncio.to_thread(newest_of, folder)
        except OSError as error:
            raise ConfigurationError(f"TRIBI_JOURNAL_DIR: {folder} cannot be read: {error.strerror}") from error
        await hold_if_older(self.db, newest)
        if self.settings.is_live:
            self.journal = Journal(folder, last=max(newest, key=lambda entry: entry.opened_at, default=None))
        self._vault = vault

    async def look_back(self) -> None:
        """
        Compares the database with what this process has sent last: a failover may have lost commits under us.

        Raises:
            DatabaseUnavailable: not compared.
        """
        if self.journal is not None and self.journal.last is not None:
            await hold_if_older(self.db, [self.journal.last])


@asynccontextmanager
async def open_house(settings: Settings, *, wait_for_database: bool = True) -> AsyncGenerator[House, None]:
    """
    Args:
        wait_for_database: True: the house is settled or an error is raised. False (a server): it may have to settle later.

    Raises:
        ConfigurationError, DatabaseUnavailable: one line each on what to do.
    """
    async with AsyncExitStack() as stack:
        keyring = load_keyring(settings)
        url = await _database_url(settings, stack)
        db = Database(url, pool_size=settings.database_pool_size)
        stack.push_async_callback(db.close)
        house = House(settings, db, keyring)
        try:
            await house.settle()
        except DatabaseUnavailable as away:
            if wait_for_database:
                raise
            log.warning("house.database_not_ready", reason=str(away))
        yield house


async def _database_url(settings: Settings, stack: AsyncExitStack) -> str:
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    try:
        server = await asyncio.to_thread(hold, settings.tribi_data_dir)
    except EmbeddedPostgresError as error:
        raise ConfigurationError(str(error)) from error
    stack.callback(server.release)
    await asyncio.to_thread(_migrate_if_behind, server.url)
    return server.url


def _migrate_if_behind(url: str) -> None:
    # By the driver itself: this spares every start Alembic's import.
    with psycopg.connect(url) as connection:
        exists = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
        at = connection.execute("SELECT version_num FROM alembic_version").fetchone() if exists and exists[0] else None
    if at is None or at[0] < schema.head():
        schema.migrate(url)


def load_keyring(settings: Settings) -> Keyring:
    """
    The keys of ENCRYPTION_KEY; for the embedded database one is made, once, beside it.

    Raises:
        ConfigurationError: there is none and none may be made.
    """
    if settings.encryption_key is not None:
        return Keyring.parse(settings.encryption_key.get_secret_value())
    if not settings.is_embedded:
        raise ConfigurationError(
            "ENCRYPTION_KEY: required with DATABASE_URL; `openssl rand -base64 32` makes one. Keep it as safe as the database"
        )
    path = settings.tribi_data_dir / KEY_FILE
    try:
        return Keyring.parse(path.read_text(encoding="ascii") if path.exists() else _make_key_file(path))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the encryption key cannot be had from {path}: {error}") from error


def _make_key_file(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: process ids repeat between containers that share the folder.
    draft = path.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(b64encode(secrets.token_bytes(32)).decode() + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # fails where another process was quicker: then its key is the one
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    _sync_folder(path.parent)  # a power cut must not leave sealed data without its key
    return path.read_text(encoding="ascii")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_ORDERS = text("SELECT last_value, is_called FROM orders_id_seq")
_BEGIN_ORDERS_AT = text("SELECT setval('orders_id_seq', :start, false)")


async def _bind(db: Database, keyring: Keyring, order_id_start: int) -> tuple[Vault, str]:
    try:
        # Until this is done a server serves nobody: a connection that has gone silent may not hold it up for ever.
        async with db.begin(within_s=_BIND_WITHIN_S) as connection:
            # A server of the next release may be up before the migration is: it would be the first to write what isn't there yet.
            if shortfall := schema.shortfall(await schema.current_revision(connection)):
                raise DatabaseUnavailable(f"the database isn't migrated: {shortfall}")
            known = {key.key_id for key in await keys_on_file(connection)}
            if missing := known - set(keyring.key_ids):
                raise ConfigurationError(
                    f"ENCRYPTION_KEY: this database was sealed with another key ({', '.join(k.hex() for k in sorted(missing))}); "
                    "give that one, too (separated by a comma)"
                )
            await say_in_use(connection, keyring.key_ids[0])
            sealed = await connection.scalar(select(Installation.fingerprint_key))
            if sealed is None:
                fresh = keyring.seal(secrets.token_bytes(32), _FINGERPRINT_KEY)
                await connection.execute(
                    upsert(Installation).values(id=1, fingerprint_key=fresh).on_conflict_do_nothing()
                )
                sealed = await connection.scalar(select(Installation.fingerprint_key))
            if sealed is None:
                raise DatabaseUnavailable("the installation's row is gone")
            orders = (await connection.execute(_ORDERS)).one()
            if orders.last_value + orders.is_called < order_id_start:
                await connection.execute(_BEGIN_ORDERS_AT, {"start": order_id_start})
            identity = await connection.scalar(select(Installation.identity))
            # Within the transaction: who loses the race of two first starts with different keys leaves no trace of its own.
            return Vault(keyring, keyring.open(sealed, _FINGERPRINT_KEY)), str(identity)
    except ProgrammingError as error:
        raise DatabaseUnavailable(f"database: {reason_of(error)}") from error
    except CannotOpen as error:
        raise ConfigurationError(f"ENCRYPTION_KEY: {error}") from error
