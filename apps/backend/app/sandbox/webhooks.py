"""Sends events to whoever wants to hear them, with one static secret header as ConnectedYou does, and keeps what came of it."""

from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from app.sandbox.events import Wish, event_of
from app.sandbox.ledger import Ledger
from app.sandbox.orders import Refused

_TIMEOUT_S = 10
_REMEMBERED = 200

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Target:
    """Where webhooks go unless an event names its own, and their header."""

    url: str | None
    header: str
    secret: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """`status`: what the receiver answered; None where it didn't, and `error` says why."""

    at: str
    url: str
    event: dict[str, Any]
    status: int | None
    error: str | None

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status <= 299


class Webhooks:
    def __init__(self, ledger: Ledger, target: Target) -> None:
        self.target = target
        self.deliveries: deque[Delivery] = deque(maxlen=_REMEMBERED)
        self._ledger = ledger
        self._session: aiohttp.ClientSession | None = None

    async def send(self, wish: Wish) -> list[Delivery]:
        """
        Raises:
            Refused: it isn't clear what to send, or where to.
        """
        url = wish.url or self.target.url
        if url is None:
            raise Refused(422, "no_url", "Name a url, or start the sandbox with --webhook-url.")
        if not is_web_address(url):
            raise Refused(422, "invalid_url", "The url must begin with http:// or https:// and name a host.")
        secret = self.target.secret if wish.secret is None else wish.secret
        if not (secret.isascii() and (secret.isprintable() or not secret)):
            raise Refused(422, "invalid_secret", "The secret must be printable ASCII: it travels in an HTTP header.")
        event = event_of(wish, self._ledger)
        headers = {self.target.header: secret} if secret else {}
        sent = [await self._post(url, event, headers) for _ in range(wish.times)]
        self.deliveries.extend(sent)
        return sent

    async def _post(self, url: str, event: dict[str, Any], headers: dict[str, str]) -> Delivery:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        status, error = None, None
        try:
            async with self._session.post(url, json=event, headers=headers, allow_redirects=False) as reply:
                status = reply.status
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}" if str(failure) else type(failure).__name__
        log.info("sandbox.webhook", event_type=event["event_type"], status=status, is_answered=error is None)
        return Delivery(datetime.now(UTC).isoformat(timespec="milliseconds"), url, event, status, error)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def shape(deliveries: list[Delivery]) -> list[dict[str, Any]]:
    """For programs."""
    return [asdict(delivery) for delivery in deliveries]
