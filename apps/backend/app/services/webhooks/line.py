"""The way out: one POST to a receiver, signed, at a public address only, whatever its name says at that moment.

The guard stands in `socket_factory`, the last thing that is asked before a connection is opened, and sees the very address that
it goes to: neither a name that is resolved anew (rebinding) nor one that stands for a number gets around it. No redirect is
followed, no proxy of the environment is used, and no connection is kept for a later message.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook

from app.redaction import redact
from app.values.public_address import is_public

TIMEOUT_S = 20
"""Total, from the look-up of the name to the answer's status."""

_NAMES_KEPT_S = 10
"""Also, who asks for a name that is being looked up waits for that answer: one name takes one thread."""

_BODY_WITHIN_S = 2
_MOST_READ_BYTES = 4096
_MOST_KEPT = 500
"""Characters of what a receiver says."""

_MOST_LOOKUPS = 64
"""Threads at most, each of them asking for one name: a name server that hangs holds up nobody else."""

_OK = range(200, 300)
_GONE = 410


class Outcome(StrEnum):
    """How an attempt ended. A closed set: it labels a metric."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """It answered, and not with 2xx."""
    GONE = "gone"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    FORBIDDEN = "forbidden"
    """Its name leads to an address to which nothing is sent; no connection was opened."""


@dataclass(frozen=True, slots=True)
class Message:
    """What goes out. `secrets`: one, or two while they are rotated, the newer one first."""

    message_id: str
    url: str = field(repr=False)
    body: str
    secrets: Sequence[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it. `status`: HTTP's, None where there was none. `said`: by the receiver or the network, cut and redacted."""

    outcome: Outcome
    status: int | None
    said: str | None
    ms: int


def signed(message: Message, at: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks. `at`: aware, UTC."""
    signatures = [Webhook(secret).sign(message.message_id, at, message.body) for secret in message.secrets]
    return {
        "webhook-id": message.message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


class Line:
    """Posts messages for as long as it is open. It belongs to the loop in which it was made."""

    def __init__(
        self,
        *,
        allow_private: bool,
        timeout_s: float = TIMEOUT_S,
        resolver: AbstractResolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """
        Args:
            allow_private: WEBHOOKS_ALLOW_PRIVATE: no address is refused.
            resolver, ssl_context: for tests with names and a certificate authority of their own.
        """
        context = ssl_context or ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._allow_private = allow_private
        self._resolver = resolver or _Resolver()
        self._timeout_s = timeout_s
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context,
                limit=0,
                force_close=True,
                resolver=self._resolver,
                ttl_dns_cache=_NAMES_KEPT_S,
                socket_factory=None if allow_private else _public_socket,
            ),
            timeout=aiohttp.ClientTimeout(total=None),  # ours is around the whole attempt
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": f"Tribi/{version('tribi')} (webhooks)",
            },
        )

    async def post(self, message: Message) -> Answer:
        """Sends a message once. It doesn't raise: whatever goes wrong with a receiver is an answer."""
        begun = time.monotonic()
        status: int | None = None
        said: str | None
        try:
            if not self._allow_private and not message.url.startswith("https://"):
                raise _NotPublic  # it was allowed when it was added
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.post(
                    message.url,
                    data=message.body.encode(),
                    headers=signed(message, datetime.now(UTC)),
                    allow_redirects=False,
                ) as response,
            ):
                status = response.status
                said = await _beginning_of(response)
                outcome = _outcome_of(status)
        except TimeoutError:
            said = f"no whole answer within {self._timeout_s:g} s"
            outcome = Outcome.TIMEOUT if status is None else _outcome_of(status)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            outcome = Outcome.FORBIDDEN if _is_forbidden(error) else Outcome.UNREACHABLE
            if outcome is Outcome.FORBIDDEN:
                said = _NotPublic.why
            else:
                said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        ms = round((time.monotonic() - begun) * 1000)
        return Answer(outcome, status, _kept(said, message.secrets), ms)

    async def close(self) -> None:
        await self._session.close()
        await self._resolver.close()


def _outcome_of(status: int) -> Outcome:
    if status in _OK:
        return Outcome.DELIVERED
    return Outcome.GONE if status == _GONE else Outcome.REFUSED


async def _beginning_of(response: aiohttp.ClientResponse) -> str:
    """Some of the body, for whoever looks at the log. The status has said what counts: the body may fail."""
    read = bytearray()
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_BODY_WITHIN_S):
            while len(read) < _MOST_READ_BYTES and (chunk := await response.content.read(_MOST_READ_BYTES - len(read))):
                read += chunk
    return read.decode("utf-8", "replace")


def _kept(said: str | None, secrets: Sequence[str]) -> str | None:
    if not said:
        return None
    printable = "".join(letter if letter.isprintable() else " " for letter in redact(said, secrets))
    return printable.strip()[:_MOST_KEPT] or None


class _NotPublic(OSError):
    why = "nothing was sent: it isn't https, or its address is private or reserved"

    def __init__(self) -> None:
        super().__init__(errno.EACCES, self.why)


def _public_socket(found: tuple[Any, ...]) -> socket.socket:
    """
    The socket for an address that was found, which is connected to that and to no other.

    Raises:
        _NotPublic: it is none of the public Internet's.
    """
    family, kind, protocol, _, address = found
    if not is_public(str(address[0])):
        raise _NotPublic
    return socket.socket(family=family, type=kind, proto=protocol)


def _is_forbidden(error: Exception) -> bool:
    # Of several addresses that all fail alike aiohttp makes one error, which keeps nothing but the number.
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return isinstance(cause, OSError) and cause.errno == errno.EACCES


class _Resolver(AbstractResolver):
    """The system's own, in threads that nobody else waits for."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_MOST_LOOKUPS, thread_name_prefix="webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        return [
            ResolveResult(
                hostname=host, host=str(to[0]), port=port, family=kin, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for kin, _, protocol, _, to in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
