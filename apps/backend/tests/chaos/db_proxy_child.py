"""The program of `db_proxy.py`: standard library alone, so that it starts in 50 ms.

Written to PostgreSQL's protocol 3 ("Message Formats"): after the first one every message has a type byte and its length. It looks
at what the client says; what the server says passes unread, unless it answers a COMMIT that is to be lost.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOCKET = ".s.PGSQL.{port}"
CONTROL = "control"
_CHUNK = 65536
_STARTING_UP = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"


@dataclass(frozen=True, slots=True)
class _Loss:
    """A COMMIT that is to be lost."""

    reaches_server: bool
    match: re.Pattern[bytes] | None
    pid: int | None
    count_as: str | None


class _Proxy:
    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.counts: Counter[str] = Counter()
        self.losses: list[_Loss] = []
        self.open: set[_Connection] = set()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._refusing = 0
        self._stalls = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            if self._refusing:
                await _message(reader)  # a client that is answered before it has spoken takes that for a broken line
                writer.write(b"E" + struct.pack("!i", len(_STARTING_UP) + 4) + _STARTING_UP)
                self.counts["refused"] += 1
                await writer.drain()
            else:
                await _Connection(self, (reader, writer)).forward()
        writer.close()

    async def hold_up(self) -> None:
        """Returns at once unless nothing may pass."""
        if not self.flowing.is_set():
            self.counts["held_up"] += 1
            await self.flowing.wait()

    def loss_for(self, connection: "_Connection") -> _Loss | None:
        said = connection.transaction or b""
        for loss in self.losses:
            if loss.pid in (None, connection.pid) and (loss.match is None or loss.match.search(said)):
                self.losses.remove(loss)
                return loss
        return None

    def has_lost(self, loss: _Loss) -> None:
        self.counts["lost_commits" if loss.reaches_server else "dropped_commits"] += 1
        if loss.count_as is not None:
            self.counts[loss.count_as] += 1

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            try:
                reply = self._obey(json.loads(line))
            except (KeyError, TypeError, ValueError, re.error) as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    def _obey(self, command: dict[str, Any]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        match command.pop("do"):
            case "cut":
                cut = [connection for connection in list(self.open) if connection.cut()]
                self.counts["cut"] += len(cut)
                return {"cut": len(cut)}
            case "refuse":
                loop.call_later(command["for_s"], self._refuse_no_more)
                self._refusing += 1
                return {}
            case "stall":
                loop.call_later(command["for_s"], self._stall_no_more)
                self._stalls += 1
                self.flowing.clear()
                return {}
            case "lose_commit" | "drop_commit" as what:
                pattern = command.get("match")
                match = None if pattern is None else re.compile(pattern.encode())
                self.losses.append(_Loss(what == "lose_commit", match, command.get("pid"), command.get("count_as")))
                return {"waiting": len(self.losses)}
            case "forget":
                forgotten = len(self.losses)
                self.losses.clear()
                return {"forgotten": forgotten}
            case "counts":
                return dict(self.counts)
        raise ValueError("no such command")

    def _refuse_no_more(self) -> None:
        self._refusing -= 1

    def _stall_no_more(self) -> None:
        self._stalls -= 1
        if not self._stalls:
            self.flowing.set()


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """One of the app's to the server. It knows what was said in its transaction, None outside of one."""

    def __init__(self, proxy: _Proxy, client: _Stream) -> None:
        self.pid = _pid_of(client[1])
        self.transaction: bytearray | None = None
        self._prepared: dict[bytes, bytes] = {}
        self._proxy = proxy
        self._client = client
        self._server: _Stream | None = None
        self._losing: _Loss | None = None

    async def forward(self) -> None:
        self._server = await asyncio.open_unix_connection(self._proxy.upstream)
        self._proxy.open.add(self)
        try:
            await self._proxy.hold_up()
            self._server[1].write(await _message(self._client[0]))  # the startup, or the request to cancel something
            both = [asyncio.create_task(self._up(self._server[1])), asyncio.create_task(self._down(self._server[0]))]
            _, pending = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        finally:
            if self._losing is not None:  # the server died before it answered
                self._proxy.losses.insert(0, self._losing)
            self.cut()

    def cut(self) -> bool:
        """Returns False if that had happened."""
        if self not in self._proxy.open:
            return False
        self._proxy.open.discard(self)
        self._client[1].transport.abort()
        if self._server is not None:
            self._server[1].transport.abort()
        return True

    async def _up(self, server: asyncio.StreamWriter) -> None:
        buffer = bytearray()
        while chunk := await self._client[0].read(_CHUNK):
            await self._proxy.hold_up()
            buffer += chunk
            for kind, message in _whole_messages(buffer):
                if kind in b"QP" and not self._notice(_statement(kind, message)):
                    return
                if self.transaction is not None:
                    self.transaction += self._prepared_by(kind, message) + message
                server.write(message)
            await server.drain()

    def _prepared_by(self, kind: bytes, message: bytes) -> bytes:
        """Of a Bind, the Parse that it refers to, which may have been said long before; else nothing."""
        if kind == b"P":
            self._prepared[message[5:].split(b"\0", 1)[0]] = message
        return self._prepared.get(message[5:].split(b"\0", 2)[1], b"") if kind == b"B" else b""

    def _notice(self, statement: bytes) -> bool:
        """Returns False where this is as far as it comes."""
        if statement.startswith(b"BEGIN"):
            self.transaction = bytearray()
        elif statement.startswith((b"COMMIT", b"ROLLBACK")) and not statement.startswith(b"ROLLBACK TO"):
            loss = self._proxy.loss_for(self) if statement.startswith(b"COMMIT") else None
            self.transaction = None
            if loss is not None and not loss.reaches_server:
                self._proxy.has_lost(loss)
                return False
            self._losing = loss
        return True

    async def _down(self, server: asyncio.StreamReader) -> None:
        client = self._client[1]
        swallowed = bytearray()
        tag = b""
        while chunk := await server.read(_CHUNK):
            await self._proxy.hold_up()
            if self._losing is None:
                client.write(chunk)
                await client.drain()
                continue
            # psycopg waits for each answer before it says COMMIT, so all that comes now answers that.
            swallowed += chunk
            for kind, message in _whole_messages(swallowed):
                if kind == b"C":
                    tag = message[5:-1]
                if kind == b"Z":
                    if tag == b"COMMIT":  # and not ROLLBACK, which answers the COMMIT of a transaction that had failed
                        self._proxy.has_lost(self._losing)
                        self._losing = None
                    return


async def _message(reader: asyncio.StreamReader) -> bytes:
    """A message without a type, as the first one is."""
    length = await reader.readexactly(4)
    return length + await reader.readexactly(struct.unpack("!i", length)[0] - 4)


def _whole_messages(buffer: bytearray) -> Iterator[tuple[bytes, bytes]]:
    """The type and all of each message that is complete; they are taken out of the buffer."""
    at = 0
    while len(buffer) >= at + 5 and len(buffer) >= (end := at + 1 + int(struct.unpack_from("!i", buffer, at + 1)[0])):
        yield bytes(buffer[at : at + 1]), bytes(buffer[at:end])
        at = end
    del buffer[:at]


def _statement(kind: bytes, message: bytes) -> bytes:
    """Of a Query, or of a Parse, where the prepared statement's name stands before it."""
    return message[5:].split(b"\0")[kind == b"P"].lstrip().upper()


def _pid_of(client: asyncio.StreamWriter) -> int | None:
    """The process at the other end; None where the system doesn't tell (macOS)."""
    peer = client.get_extra_info("socket")
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    return int(struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


async def _main(upstream: str, folder: str) -> None:
    proxy = _Proxy(upstream)
    async with (
        await asyncio.start_unix_server(proxy.accept, Path(folder, SOCKET.format(port="5432")), backlog=512),
        await asyncio.start_unix_server(proxy.control, Path(folder, CONTROL)),
    ):
        # A server forked by the process that started us has its end of our stdin, too, and may live longer.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _end, folder)
        os.write(1, b"listening\n")
        stdin = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
        await stdin.read()  # until the process that started us has gone
        _end(folder)


def _end(folder: str) -> None:
    shutil.rmtree(folder)
    os._exit(0)  # closing the servers would wait for their connections


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
