"""
A PostgreSQL that can be set back: its WAL is archived, and a base backup with it makes the database as it was at any moment since.

Each restore is a server of its own in a folder of its own, as on another machine; the one before stays behind.
"""

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from app import schema
from app.postgres import Lease, hold
from tests.conftest import other_database
from tests.postgres.clients import guardians
from tests.processes.programs import until

_ARCHIVED_WITHIN_S = 60


class Restorable:
    """
    Attributes:
        server: the one that is in use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._archive = folder / "archive"
        self._archive.mkdir()
        self._number = 0
        self.server = self._make()

    def _make(self) -> Lease:
        with hold(self._place) as server, psycopg.connect(server.url, autocommit=True) as connection:
            for name, value in (
                ("archive_mode", "on"),
                (
                    "archive_command",
                    f'cp "%p" "{self._archive}/%f.part" && mv "{self._archive}/%f.part" "{self._archive}/%f"',
                ),
            ):
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        self._give(self._archive)
        while guardians(self._place):  # the settings are read by the next server, not by one that is still there
            time.sleep(0.02)
        server = hold(self._place)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE template_tribi")
        schema.migrate(other_database(server.url, "template_tribi"))
        return server

    @property
    def _place(self) -> Path:
        return self._folder / f"data-{self._number}"

    @property
    def _data(self) -> Path:
        return self._place / "postgres" / "data"

    def url_of(self, database_url: str) -> str:
        """The same database, on the server in use."""
        return other_database(self.server.url, str(conninfo_to_dict(database_url)["dbname"]))

    async def back_up(self) -> Path:
        """`pg_basebackup`."""
        backup = self._folder / f"backup-{self._number}"
        parts = conninfo_to_dict(self.server.url)
        made = await asyncio.create_subprocess_exec(
            *(self.server.bin_dir / "pg_basebackup", "-D", backup, "-X", "none", "--checkpoint=fast", "--no-sync"),
            *("-h", str(parts["host"]), "-p", str(parts["port"]), "-U", str(parts["user"])),
            stderr=subprocess.DEVNULL,  # that WAL isn't part of it: it is in the archive
        )
        assert await made.wait() == 0
        return backup

    def moment(self) -> str:
        """Now, as a place in the WAL."""
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            row = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
        assert row is not None
        return str(row[0])

    async def set_back(self, backup: Path, moment: str) -> None:
        """The server in use is the one of that moment from now on."""
        await self._archive_all()
        self._put_in_place(backup, moment)
        left, self.server = self.server, await asyncio.to_thread(hold, self._place)
        left.release()

    def _put_in_place(self, backup: Path, moment: str) -> None:
        before = self._data
        self._number += 1
        self._data.parent.mkdir(mode=0o700, parents=True)
        self._place.chmod(before.parents[1].stat().st_mode)
        backup.rename(self._data)
        self._data.chmod(0o700)
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write(
                f'restore_command = \'cp "{self._archive}/%f" "%p"\'\n'
                f"recovery_target_lsn = '{moment}'\nrecovery_target_action = 'promote'\n"
            )
        (self._data / "recovery.signal").touch()
        self._give(self._data.parent, like=before)

    async def _archive_all(self) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row is not None
        segment = self._archive / str(row[0])
        await until(segment.exists, _ARCHIVED_WITHIN_S)

    def _give(self, place: Path, like: Path | None = None) -> None:
        """To the server's user."""
        owner = (like or self._data).stat()
        for path in (place, *place.rglob("*")):
            with suppress(FileNotFoundError):
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def close(self) -> None:
        self.server.release()


@contextmanager
def restorable() -> Iterator[Restorable]:
    with tempfile.TemporaryDirectory(prefix="tribi-restoring-", ignore_cleanup_errors=True) as place:
        folder = Path(place).resolve()
        folder.chmod(0o711)  # root's server is another user's
        made = Restorable(folder)
        try:
            yield made
        finally:
            made.close()
