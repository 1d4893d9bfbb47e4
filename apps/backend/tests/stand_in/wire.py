"""HTTP/1.1 by hand: reading a request, framing an answer, and ending a connection in each way that TCP knows."""

import asyncio
import contextlib
import http.client
import json
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
Body = bytes | str | dict[str, Any] | list[Any] | None

JSON = ("Content-Type", "application/json")
MAX_HEAD = 64 * 1024
MAX_BODY = 4 * 1024 * 1024
LINGER_S = 2.0
_WITHOUT_BODY = frozenset({204, 304})


class BadRequestError(Exception):
    """Bytes that are no HTTP/1.1 request; nothing sensible can follow on that connection."""


@dataclass(slots=True)
class Received:
    """
    One request as it arrived.

    Attributes:
        seq: from 1.
        connection: which accepted connection it came on, from 1.
        headers: names in lower case.
        reference: the order reference, where the body keeps the contract.
        fault: name of the row it met; "" when it was refused for breaking the contract.
        ended: "open", "answered", "closed", "reset", "client left", or "cut short" by the stand-in's own end.
    """

    seq: int
    connection: int
    at: float
    method: str
    path: str
    version: str
    headers: dict[str, str]
    body: bytes = b""
    reference: str | None = None
    fault: str = ""
    ended: str = "open"

    def json(self) -> dict[str, Any]:
        """The body, which the contract says is an object."""
        decoded = json.loads(self.body)
        assert isinstance(decoded, dict)
        return decoded


def header_pairs(headers: Headers) -> list[tuple[str, str]]:
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def encode_body(body: Body) -> bytes:
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def frame(status: int, body: Body = None, headers: Headers = (), *, reason: str | None = None) -> bytes:
    """
    A well-framed answer. JSON unless a Content-Type is given; a Content-Length or Transfer-Encoding that the caller
    gives is left alone, which is how wrong ones are made.
    """
    data = encode_body(body)
    pairs = header_pairs(headers)
    names = {name.lower() for name, _ in pairs}
    if reason is None:
        reason = http.client.responses.get(status, "Odd")
    if "content-type" not in names and data:
        pairs.append(JSON)
    if not names & {"content-length", "transfer-encoding"} and status >= 200 and status not in _WITHOUT_BODY:
        pairs.append(("Content-Length", str(len(data))))
    head = f"HTTP/1.1 {status} {reason}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return head.encode("latin-1") + b"\r\n" + data


class Connection:
    """One accepted socket."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.is_open = True
        self.ending = ""
        self.requests = 0
        self._reader = reader
        self._writer = writer

    async def read_head(self) -> tuple[str, str, str, dict[str, str]] | None:
        """Method, path, version and headers (names in lower case); None when the client has left."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError as error:
            raise BadRequestError("the head is too long") from error
        first, *rest = head[:-4].decode("latin-1").split("\r\n")
        try:
            method, path, version = first.split(" ")
            headers = {}
            for line in rest:
                name, value = line.split(":", 1)
                headers[name.lower()] = value.strip()
        except ValueError as error:
            raise BadRequestError("not an HTTP/1.1 head") from error
        return method, path, version, headers

    async def read_body(self, headers: Mapping[str, str]) -> bytes:
        """Raises BadRequestError, or IncompleteReadError when the client leaves half-way."""
        if headers.get("expect", "").lower() == "100-continue":
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._read_chunks()
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError as error:
            raise BadRequestError("Content-Length is no number") from error
        if not 0 <= length <= MAX_BODY:
            raise BadRequestError("Content-Length is out of range")
        return await self._reader.readexactly(length) if length else b""

    async def _read_chunks(self) -> bytes:
        chunks: list[bytes] = []
        while True:
            try:
                size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
            except ValueError as error:
                raise BadRequestError("a chunk size is no number") from error
            if not 0 <= size <= MAX_BODY:
                raise BadRequestError("a chunk is too long")
            chunk = await self._reader.readexactly(size + 2)
            if size == 0:
                return b"".join(chunks)
            chunks.append(chunk[:-2])

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError when the client is gone."""
        self._writer.write(data)
        await self._writer.drain()

    async def gone(self) -> None:
        """Returns when the client has left; what it still sends is thrown away."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass

    async def finish(self) -> None:
        """
        End with a FIN. Closing a socket that holds unread bytes would send a RST instead, so the write side is shut
        first and the rest read away until the client closes too.
        """
        self.is_open = False
        self.ending = "closed"
        with contextlib.suppress(OSError):  # a client that was killed is not even connected any more (ENOTCONN)
            await self._writer.drain()
            if self._writer.can_write_eof():
                self._writer.write_eof()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_S):
                        await self.gone()
        self._writer.close()

    async def end(self) -> None:
        """Last of all, whatever happened: what was written leaves if the client takes it, and no socket is left."""
        self.is_open = False
        try:
            if self._writer.is_closing():
                async with asyncio.timeout(LINGER_S):
                    await self._writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # the client is gone already, or doesn't take it
        finally:
            self._writer.transport.abort()

    def close(self) -> None:
        """What a server does with an idle connection: close at once; bytes that cross the wire are answered by RST."""
        self.is_open = False
        self.ending = "closed"
        self._writer.close()

    def reset(self) -> None:
        """End with a RST (SO_LINGER 0), as a crashed process or a load balancer does."""
        self.is_open = False
        self.ending = "reset"
        sock = self._writer.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
