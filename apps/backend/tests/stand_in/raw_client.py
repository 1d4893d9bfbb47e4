"""
A client that speaks HTTP/1.1 by hand and forgives nothing: the judge of what the faults put on the wire.

Also for tests that must send what no HTTP library sends, or leave in the middle.
"""

import asyncio
import json
import re
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2}) [^\r\n\0]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})(;[^\r\n]*)?\r\n")
_MAX_LENGTH = 10**9


class NotWellFramedError(Exception):
    """What came isn't one HTTP/1.1 answer."""


class NothingError(Exception):
    """The connection was closed without a byte."""


@dataclass(frozen=True)
class Answer:
    """A complete final answer; interim ones are in `interim`."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: list[int]

    def json(self) -> Any:
        return json.loads(self.body)


def order_bytes(order: dict[str, Any], *, key: str = "a-key", path: str = "/partners/orders", extra: str = "") -> bytes:
    """A request as the contract wants it; `extra` is header lines, each with its CRLF."""
    body = json.dumps(order).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: stand-in\r\nx-api-key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    )
    return head.encode() + body


class RawClient:
    """One connection to a stand-in."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._tls = tls
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)

    async def order(self, order: dict[str, Any], **how: str) -> Answer:
        """Raises what `answer` raises."""
        await self.send(order_bytes(order, **how))
        return await self.answer()

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError where the server has reset."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        """
        Raises:
            NothingError: a FIN before the first byte.
            NotWellFramedError: anything but an answer.
            ConnectionError: a RST.
        """
        interim: list[int] = []
        while True:
            status, headers = await self._head(is_first=not interim)
            if status >= 200:
                return Answer(status, headers, await self._body(status, headers), interim)
            if status == 101:
                raise NotWellFramedError("switches protocols unasked")
            interim.append(status)

    async def only_answer(self) -> Answer:
        """The answer of a server that closes; raises NotWellFramedError where bytes follow it."""
        answer = await self.answer()
        if await self.rest():
            raise NotWellFramedError("bytes behind the answer")
        return answer

    async def _head(self, *, is_first: bool) -> tuple[int, dict[str, str]]:
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if is_first and not error.partial:
                raise NothingError from error
            raise NotWellFramedError("ends in its head") from error
        except asyncio.LimitOverrunError as error:
            raise NotWellFramedError("a head of more than 64 KiB") from error
        first, *rest = head[:-4].split(b"\r\n")
        line = _STATUS_LINE.fullmatch(first)
        if line is None:
            raise NotWellFramedError(f"the status line {first[:40]!r}")
        headers: dict[str, str] = {}
        for raw in rest:
            header = _HEADER.fullmatch(raw)
            if header is None:
                raise NotWellFramedError(f"the header {raw[:40]!r}")
            name, value = header[1].decode().lower(), header[2].decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return int(line[1]), headers

    async def _body(self, status: int, headers: dict[str, str]) -> bytes:
        length, transfer = headers.get("content-length"), headers.get("transfer-encoding")
        if length is not None and (not re.fullmatch("[0-9]{1,10}", length) or int(length) > _MAX_LENGTH):
            raise NotWellFramedError(f"Content-Length {length[:40]}")
        if transfer not in (None, "chunked") or (transfer and length):
            raise NotWellFramedError(f"Transfer-Encoding {transfer} and Content-Length {length}")
        if status in (204, 304):
            return b""
        try:
            if transfer:
                return await self._chunks()
            return await self.reader.readexactly(int(length)) if length is not None else await self.reader.read()
        except asyncio.IncompleteReadError as error:
            raise NotWellFramedError("ends in its body") from error

    async def _chunks(self) -> bytes:
        found = b""
        while True:
            try:
                line = _CHUNK_SIZE.fullmatch(await self.reader.readuntil(b"\r\n"))
            except asyncio.LimitOverrunError as error:
                raise NotWellFramedError("a chunk's line of more than 64 KiB") from error
            if line is None:
                raise NotWellFramedError("a chunk's size")
            size = int(line[1], 16)
            if size == 0:
                while await self.reader.readuntil(b"\r\n") != b"\r\n":
                    pass
                return found
            chunk = await self.reader.readexactly(size + 2)
            if not chunk.endswith(b"\r\n"):
                raise NotWellFramedError("a chunk's end")
            found += chunk[:-2]

    async def rest(self) -> bytes:
        """Everything up to the FIN. Raises ConnectionError at a RST."""
        return await self.reader.read()

    def leave(self) -> None:
        """Half-close: we send no more, and read on."""
        self.writer.write_eof()
