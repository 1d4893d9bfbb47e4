"""The one HTTP POST that spends money.

What matters is whether a byte of the order may have left. `_GuardedRequest.send` is the last thing that aiohttp runs before it
writes: up to there every failure is "nothing was sent", from there on every failure is "not known".
"""

import asyncio
import ssl
import zlib
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version

import aiohttp

from app.services.esim_providers.connected_you.client import Exchange
from app.services.esim_providers.contract import (
    MAX_ANSWER_BYTES,
    Answer,
    PreparedOrder,
    SupplierOutcomeUnknown,
    SupplierUnreachable,
    quoted,
)

_KEEPALIVE_S = 0.5
"""
How long an idle connection may be used again. Far below any supplier's own limit (1 s is the shortest seen), so that it isn't
closed by them in the moment in which an order is written to it: that would be an unknown outcome for nothing.
"""


@dataclass(slots=True)
class _Sending:
    may_send: Callable[[], bool]
    begun: bool = False


_sending: ContextVar[_Sending] = ContextVar("sending")


class _TooLate(Exception):
    """Too much time has passed since the order was put on file."""


class _GuardedRequest(aiohttp.ClientRequest):
    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        sending = _sending.get()
        if not sending.may_send():
            raise _TooLate
        sending.begun = True
        return await super().send(conn)


class Wire:
    """A `Line` over HTTP: TLS verified, no redirect followed, one total deadline, connections pooled."""

    is_live = True

    def __init__(self, api_key: str, timeout_s: float, *, ssl_context: ssl.SSLContext | None = None) -> None:
        """
        Args:
            api_key: sent as `x-api-key`.
            timeout_s: total, from the first connection attempt to the last byte of the answer.
            ssl_context: for tests with a certificate authority of their own.
        """
        self._headers = {
            "x-api-key": api_key,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"Tribi/{version('tribi')}",
        }
        self._timeout_s = timeout_s
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None

    async def send(self, order: PreparedOrder, may_send: Callable[[], bool]) -> Exchange:
        """As `Line.send`. What was received of a broken answer is kept on the error."""
        sending = _Sending(may_send)
        _sending.set(sending)
        received = bytearray()
        status: int | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                async with await self._connected(order, sending) as response:
                    status = response.status
                    await _read(response, received)
                    return Exchange(
                        Answer(status, _decompressed(bytes(received), response.headers.get("Content-Encoding", ""))),
                        response.headers.get("Retry-After"),
                    )
        except Exception as error:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if not sending.begun:
                raise SupplierUnreachable(
                    f"ConnectedYou cannot be reached, {order.reference} was not sent: {what}"
                ) from error
            # Whatever it is that went wrong after the first byte: an eSIM may have been issued.
            answer = Answer(status, bytes(received[:MAX_ANSWER_BYTES])) if status is not None else None
            raise SupplierOutcomeUnknown(
                f"ConnectedYou's answer for {order.reference} was lost: {what}; {quoted(answer)}", answer=answer
            ) from error

    async def _connected(self, order: PreparedOrder, sending: _Sending) -> aiohttp.ClientResponse:
        """Posts, with one quiet retry where nothing was sent."""
        try:
            return await self._post(order)
        except (OSError, aiohttp.ClientConnectionError):
            if sending.begun or not sending.may_send():
                raise
            return await self._post(order)

    async def _post(self, order: PreparedOrder) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = self._open_session()
        return await self._session.post(
            f"{order.base_url}/partners/orders", data=order.body, headers=self._headers, allow_redirects=False
        )

    def _open_session(self) -> aiohttp.ClientSession:
        context = self._ssl_context or ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=_KEEPALIVE_S),
            request_class=_GuardedRequest,
            timeout=aiohttp.ClientTimeout(total=None),  # ours is around the whole exchange
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # ours has a limit
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


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

    A body that does not decompress is returned as it came: it then fails to be JSON, and stays on file.
    """
    window_bits = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}.get(
        encoding.strip().lower()
    )
    if window_bits is None:
        return body[:MAX_ANSWER_BYTES]
    try:
        return zlib.decompressobj(window_bits).decompress(body, MAX_ANSWER_BYTES)
    except zlib.error:
        return body[:MAX_ANSWER_BYTES]
