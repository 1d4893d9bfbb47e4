"""
A client's connection to a server, kept alive: raw bytes out, httptools in.

An HTTP library costs the client more than the call costs the server, and on two cores that would be measured with it.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self, cast
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer. `headers` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str | None:
        """The problem's type without `/problems/`; None where the body is none."""
        if not self.headers.get("content-type", "").startswith("application/problem+json"):
            return None
        return str(self.json()["type"]).removeprefix("/problems/")


class Line(asyncio.Protocol):
    """One request at a time. A connection that breaks raises ConnectionError in `ask`, and is broken from then on."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Heard] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    @classmethod
    async def open(cls, url: str) -> Self:
        """Raises OSError where nobody listens."""
        line = cls(url)
        await asyncio.get_running_loop().create_connection(lambda: line, line._host, line._port)
        return line

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, method: str, path: str, bearer: str, said: object = None, extra: str = "") -> asyncio.Future[Heard]:
        """
        Writes a request.

        Args:
            extra: header lines, each with its CRLF.

        Returns:
            Its answer to come; ConnectionError where the connection breaks first.

        Raises:
            ConnectionError: it is broken already; nothing was written.
        """
        body = b"" if said is None else json.dumps(said).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nAuthorization: Bearer {bearer}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        )
        return self.send_raw(head.encode() + body)

    def send_raw(self, request: bytes) -> asyncio.Future[Heard]:
        """The same with a whole request as it shall go over the wire, even if it is none."""
        assert self._answer is None, "one request at a time"
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection is broken")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    async def ask(self, method: str, path: str, bearer: str, said: object = None, extra: str = "") -> Heard:
        return await self.send(method, path, bearer, said, extra)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has its methods, and not its name

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            broken = ConnectionResetError("the connection broke before the answer")
            broken.__cause__ = error
            answer.set_exception(broken)

    # --- httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        heard = Heard(self._parser.get_status_code(), self._headers, bytes(self._body))
        self._headers, self._body = {}, bytearray()
        self._parser = httptools.HttpResponseParser(self)
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(heard)
