"""
The ledger: one fsynced line per eSIM issued, on disk before the answer leaves.

It is the oracle of every chaos run, so it must survive what kills the stand-in itself: a torn last line (whose
answer never left) is cut off when the file is opened again.
"""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.stand_in.issuing import Issued


def read_ledger(path: Path) -> list[Issued]:
    """The complete lines of a ledger, also of one that is being written; [] when there is none yet."""
    if not path.exists():
        return []
    data = path.read_bytes()
    return [Issued(**json.loads(line)) for line in data[: data.rfind(b"\n") + 1].splitlines()]


class Ledger:
    """An append-only file with one fsync for all lines that wait (group commit), so that 1,000 a second fit."""

    def __init__(self, path: Path | None, *, fsync: bool) -> None:
        self._path = path
        self._fsync = fsync
        self._file: int | None = None
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def open(self) -> list[Issued]:
        """Returns what earlier runs wrote, so that a stand-in started again goes on counting."""
        if self._path is None:
            return []
        earlier = read_ledger(self._path)
        self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        data = self._path.read_bytes()
        os.ftruncate(self._file, data.rfind(b"\n") + 1)
        if self._fsync:
            self._thread = ThreadPoolExecutor(1, "stand-in-ledger")
        return earlier

    async def append(self, line: bytes) -> None:
        """Returns once the line is on disk."""
        if self._file is None:
            return
        if self._thread is None:
            os.write(self._file, line)
            return
        on_disk = asyncio.get_running_loop().create_future()
        self._waiting.append((line, on_disk))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await on_disk

    async def settled(self) -> None:
        """Returns once every line appended so far is on disk."""
        if self._flushing is not None:
            await asyncio.shield(self._flushing)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    await loop.run_in_executor(self._thread, self._write, b"".join(line for line, _ in batch))
                except OSError as error:
                    for _, on_disk in batch:
                        if not on_disk.done():
                            on_disk.set_exception(error)
                for _, on_disk in batch:
                    if not on_disk.done():
                        on_disk.set_result(None)
        finally:
            self._flushing = None

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)

    async def close(self) -> None:
        await self.settled()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        if self._file is not None:
            os.close(self._file)
            self._file = None
