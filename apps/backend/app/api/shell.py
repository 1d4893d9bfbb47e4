"""Around every request: its id, the limit of its body, headers that every answer carries, one log line, metrics.

Plain ASGI, so that nothing stands between the server and a handler's task (reliability: a client that hangs up may not be missed
or cut work short).
"""

import re
import secrets
import time
from http import HTTPStatus

import structlog
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from app import metrics
from app.api.problems import InternalError, TooLarge, problem_reply

MAX_BODY_BYTES = 64 * 1024
_MOST_DISCARDED_BYTES = 32 * 1024 * 1024
"""So much of a body that is too large is read and thrown away, so that its sender gets to read the answer."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}

log = structlog.get_logger()


class Shell:
    """Wraps the application."""

    def __init__(self, app: FastAPI, *, is_https: bool) -> None:
        """
        Args:
            is_https: whether clients reach us by https (PUBLIC_URL says so): then they are told to stay there (RFC 6797).
        """
        self.app = app
        self._headers = dict(_SECURITY_HEADERS)
        if is_https:
            self._headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else "req_" + secrets.token_urlsafe(9)
        with bound_contextvars(request_id=request_id):
            await self._answer(scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if _declared_length(scope) > MAX_BODY_BYTES:
                if "expect" not in Headers(scope=scope):
                    await _discard(receive)
                await problem_reply(TooLarge(), scope["path"], headers={"Connection": "close"})(
                    scope, receive, send_with_headers
                )
            else:
                await self.app(scope, _limited(receive), send_with_headers)
        except Exception:
            log.exception("http.failed", method=scope["method"], route=_route(scope))
            if status == 0:
                await problem_reply(InternalError(), scope["path"])(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - started
            route = _route(scope)
            metrics.HTTP_REQUESTS.labels(
                scope["method"] if scope["method"] in _METHODS else "other", route, status
            ).inc()
            metrics.HTTP_SECONDS.labels(route).observe(seconds)
            log.info("http.request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 1))


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _route(scope: Scope) -> str:
    """The route's pattern, never the path itself: paths can hold secrets."""
    return getattr(scope.get("route"), "path", "unknown")


def _declared_length(scope: Scope) -> int:
    text = Headers(scope=scope).get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def _limited(receive: Receive) -> Receive:
    """For bodies that don't declare their length."""
    received = 0

    async def receive_some() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    return receive_some


async def _discard(receive: Receive) -> None:
    discarded = 0
    while discarded < _MOST_DISCARDED_BYTES:
        message = await receive()
        discarded += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return
