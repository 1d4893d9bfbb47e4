"""The one HTTP POST that spends money, for every supplier that takes orders so.

What matters is whether a byte of the order may have left. `_GuardedRequest.send` is the last thing that aiohttp runs before it
writes: up to there every failure is "nothing was sent", from there on every failure is "not known".

Each order has a connection of its own: an idle one may be closed by the supplier in the moment in which an order is written to
it, and nobody could tell whether the order was read (docs/decisions/0009-connections-to-a-provider.md).
"""

import asyncio
import contextlib
import random
import ssl
import zlib
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import aiohttp

from app import failpoints
from app.failpoints import Point
from app.services.esim_providers.contract import (
    MAX_ANSWER_BYTES,
    Answer,
    PreparedOrder,
    SupplierOutcomeUnknown,
    SupplierUnreachable,
)
from app.services.esim_providers.overheard import Overheard
from app.services.esim_providers.statuses import Exchange

_AWAKE_S = 1.0
"""A process that slept over its deadline (stopped, swapped out, a laptop's lid) reads for so long what waits in its socket."""

_RETRY_PAUSE_S = (0.1, 0.3)
"""How long the quiet retry waits, at random between these: time for a listener to come back."""

_MOST_MEMBERS = 16
"""gzip may come in members one behind the other (RFC 1952 section 2.2); a million empty ones would take their time."""


@dataclass(slots=True)
class _Sending:
    order: PreparedOrder
    url: str
    headers: dict[str, str] = field(repr=False)
    may_send: Callable[[], bool]
    begun: bool = False
    status: int | None = None
    received: bytearray = field(default_factory=bytearray)
    """The answer's body."""
    words: bytearray = field(default_factory=bytearray)
    """All that came over the wire."""


_sending: ContextVar[_Sending] = ContextVar("sending")


class _TooLate(Exception):
    """Too much time has passed since the order was put on file."""


class _GuardedRequest(aiohttp.ClientRequest):
    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        sending = _sending.get()
        failpoints.reached(Point.CALL_SENDING, sending.order.reference)
        if not sending.may_send():
            raise _TooLate
        sending.begun = True
        if conn.transport is not None and conn.protocol is not None:
            conn.transport.set_protocol(Overheard(conn.protocol, conn.transport, sending.words))
        response = await super().send(conn)
        failpoints.reached(Point.CALL_SENT, sending.order.reference)
        return response


class OnePost:
    """Posts orders: TLS verified, no redirect followed, one total deadline, a connection for each order."""

    def __init__(self, supplier: str, timeout_s: float, *, ssl_context: ssl.SSLContext | None = None) -> None:
        """
        Args:
            supplier: its name as people write it, for messages.
            timeout_s: total, from the first connection attempt to the last byte of the answer.
            ssl_context: for tests with a certificate authority of their own.
        """
        self._supplier = supplier
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "User-Agent": f"Tribi/{version('tribi')}",
        }
        self._timeout_s = timeout_s
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(
        self, order: PreparedOrder, *, url: str, headers: Mapping[str, str], may_send: Callable[[], bool]
    ) -> Exchange:
        """
        Posts the order's body.

        Args:
            headers: the supplier's own; the media type and the credentials.
            may_send: as `EsimProvider.provision` has it.

        Raises:
            SupplierUnreachable: nothing was sent.
            SupplierOutcomeUnknown: no whole answer came; what was received of it is kept on the error.
        """
        sending = _Sending(order, url, self._headers | dict(headers), may_send)
        try:
            return await _within(self._timeout_s, self._exchange(sending))
        except Exception as error:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if not sending.begun:
                raise SupplierUnreachable(
                    f"{self._supplier} cannot be reached, {order.reference} was not sent: {what}"
                ) from error
            # Whatever it is that went wrong after the first byte: an eSIM may have been issued.
            words = bytes((sending.received or sending.words)[:MAX_ANSWER_BYTES])
            answer = Answer(sending.status, words) if words or sending.status is not None else None
            raise SupplierOutcomeUnknown(
                f"{self._supplier}'s answer for {order.reference} was lost: {what}", answer=answer
            ) from error

    async def _exchange(self, sending: _Sending) -> Exchange:
        _sending.set(sending)
        reference = sending.order.reference
        failpoints.reached(Point.CALL_CONNECTING, reference)
        async with await self._connected(sending) as response:
            sending.status = response.status
            failpoints.reached(Point.CALL_HEADED, reference)
            await _read(response, sending.received)
            failpoints.reached(Point.CALL_ANSWERED, reference)
            body = _decompressed(bytes(sending.received), response.headers.get("Content-Encoding", ""))
            return Exchange(Answer(response.status, body), response.headers.get("Retry-After"))

    async def _connected(self, sending: _Sending) -> aiohttp.ClientResponse:
        """Posts, with one quiet retry where nothing was sent."""
        is_retry = False
        while True:
            try:
                return await self._post(sending)
            except (OSError, aiohttp.ClientConnectionError):
                if sending.begun or is_retry or not sending.may_send():
                    raise
                is_retry = True
                await asyncio.sleep(random.uniform(*_RETRY_PAUSE_S))  # noqa: S311 - so that not all come back at once

    async def _post(self, sending: _Sending) -> aiohttp.ClientResponse:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            # A session belongs to the loop in which it was made.
            self._session, self._loop = self._open_session(), loop
        return await self._session.post(
            sending.url, data=sending.order.body, headers=sending.headers, allow_redirects=False
        )

    def _open_session(self) -> aiohttp.ClientSession:
        context = self._ssl_context or ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0, force_close=True),
            request_class=_GuardedRequest,
            timeout=aiohttp.ClientTimeout(total=None),  # ours is around the whole exchange
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # ours has a limit
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _within(timeout_s: float, exchange: Coroutine[Any, Any, Exchange]) -> Exchange:
    """
    A total deadline. Whoever slept over it looks once more into the socket: the answer may lie there, and an eSIM in it.

    Raises:
        TimeoutError: it passed.
    """
    clock = asyncio.get_running_loop().time
    task = asyncio.create_task(exchange)
    try:
        due = clock() + timeout_s
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done() and clock() > due + _AWAKE_S:
            await asyncio.wait({task}, timeout=_AWAKE_S)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _read(response: aiohttp.ClientResponse, into: bytearray) -> None:
    """Reads the body as it comes over the wire, up to one byte more than is kept."""
    async for chunk in response.content.iter_any():
        into += chunk
        if len(into) > MAX_ANSWER_BYTES:
            response.close()
            return


def _decompressed(body: bytes, encoding: str) -> bytes:
    """
    The body without its content coding (gzip, deflate), at most MAX_ANSWER_BYTES.

    None is asked for, so gzip is recognised by its magic number, named or not. A body that does not decompress is returned as it
    came: it then fails to be JSON, and stays on file.
    """
    is_gzip = body.startswith(b"\x1f\x8b")
    if is_gzip or encoding.strip().lower() == "deflate":
        with contextlib.suppress(zlib.error):
            return _inflated(body, 16 + zlib.MAX_WBITS if is_gzip else zlib.MAX_WBITS)
    return body[:MAX_ANSWER_BYTES]


def _inflated(body: bytes, window_bits: int) -> bytes:
    """
    The text of the sound members at the beginning; what stands behind them is no part of it.

    Raises:
        zlib.error: there are none.
    """
    text = b""
    for _ in range(_MOST_MEMBERS):
        member = zlib.decompressobj(window_bits)
        try:
            text += member.decompress(body, MAX_ANSWER_BYTES - len(text))
        except zlib.error:
            if text:
                break
            raise
        body = member.unused_data
        if not body or len(text) == MAX_ANSWER_BYTES:
            break
    return text
