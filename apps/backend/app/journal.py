"""
The intent journal: what may have gone to a provider, on a disk that no restore of the database takes back.

A database that is restored from a backup (or fails over to a standby that lagged) has forgotten intents, and a forgotten intent
is a second purchase. So a line is written and fsynced after the intent's commit and before the order's first byte. It holds no
personal data and no code: references, numbers and times, and a hash of the order's `Idempotency-Key`.

The folder holds one folder for each database (by its identity, so that another database's journal says nothing about this one),
and in it a file for each process that sent something. Lines that wait are written and synced together. A line that a crash has
torn was never synced, so its order was never sent.
"""

import asyncio
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from app.errors import ConfigurationError

KEPT_DAYS = 400
"""A file to which nothing was written for so long goes when a process begins one of its own: no backup is that old."""

_SUFFIX = ".jsonl"
_LARGEST_BYTES = 16 * 1024 * 1024
_TAIL_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """
    An order that may have gone out.

    Attributes:
        opened_at, placed_at: of the attempt and of its order, by the database: numbers begin anew after a restore, times don't.
        order_key: `hash_of` the order's `Idempotency-Key`, by which a storefront will name it again.
    """

    reference: str
    order_id: int
    attempt_id: int
    opened_at: datetime
    placed_at: datetime
    provider: str
    order_key: str


_FIELDS = tuple(field.name for field in fields(Entry))


class JournalUnavailable(Exception):
    """The line is not, or not surely, on disk: the order may not be sent. `str()` says why."""


def hash_of(idempotency_key: str) -> str:
    return hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]


class Journal:
    """
    A process's own file.

    Attributes:
        last: the last line that is surely on disk; at first the newest of all files, None where there is none.
    """

    def __init__(self, folder: Path, last: Entry | None = None) -> None:
        self.folder = folder
        self.last = last
        self._descriptor: int | None = None
        self._size = 0
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """
        Makes the folder.

        Raises:
            ConfigurationError: it can't be written to.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.folder / f".probe-{secrets.token_hex(4)}"
            probe.touch(0o600)
            probe.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"TRIBI_JOURNAL_DIR: {self.folder} cannot be written to ({error.strerror}). The intent journal lies on a disk "
                "that outlives the database's: name a folder that this user may write to, in a container a mounted volume"
            ) from error

    async def write(self, entry: Entry) -> None:
        """
        Returns once the line is on disk.

        Raises:
            JournalUnavailable: it is not.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_waiting())
        await asyncio.shield(written)

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._append, "".join(_line_of(entry) for entry, _ in batch).encode())
            except OSError as error:
                self._forsake()
                for _, written in batch:
                    written.set_exception(JournalUnavailable(f"{self.folder}: {error.strerror}"))
                    written.exception()  # seen, also where nobody waits any more
            else:
                self.last = batch[-1][0]
                for _, written in batch:
                    written.set_result(None)
        self._writing = None

    def _append(self, lines: bytes) -> None:
        if self._descriptor is None or self._size > _LARGEST_BYTES:
            self._forsake()
            self._descriptor = self._begin_file()
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        os.fsync(self._descriptor)
        self._size += len(lines)

    def _begin_file(self) -> int:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = self.folder / f"{began}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        for folder in (self.folder, self.folder.parent):
            _sync_folder(folder)
        _clear_away(self.folder)
        return descriptor

    def _forsake(self) -> None:
        """What comes next goes to a file of its own: this one may end in half a line."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._size = None, 0

    def close(self) -> None:
        self._forsake()


def newest_of(folder: Path) -> list[Entry]:
    """The last lines of each file: a database that has these has what was written before them, too."""
    return [entry for path in _files(folder) for entry in _entries(_tail(path))]


def all_of(folder: Path) -> Iterator[Entry]:
    for path in _files(folder):
        yield from _entries(path.read_bytes())


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_SUFFIX}"))


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
    return tail if size <= _TAIL_BYTES else tail.partition(b"\n")[2]


def _entries(lines: bytes) -> Iterable[Entry]:
    for line in lines.split(b"\n")[:-1]:  # what follows the last line break was never synced
        try:
            given = json.loads(line)
            given |= {name: datetime.fromisoformat(given[name]) for name in ("opened_at", "placed_at")}
            yield Entry(**{name: given[name] for name in _FIELDS})
        except (ValueError, KeyError, TypeError):
            continue  # torn: a process whose disk was full has gone on in another file


def _line_of(entry: Entry) -> str:
    # Not `asdict`: that copies all that is in it, which takes as long as writing the line.
    return json.dumps({name: getattr(entry, name) for name in _FIELDS}, default=datetime.isoformat) + "\n"


def _clear_away(folder: Path) -> None:
    oldest = time.time() - KEPT_DAYS * 24 * 3600
    for path in _files(folder):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
