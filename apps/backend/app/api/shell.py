"""Around every request: its id, the limit of its body, headers that every answer carries, one log line, metrics.

Plain ASGI, so that nothing stands between the server and a handler's task (reliability: a client that hangs up may not be missed
or cut work short).
"""

import asyncio
import re
import secrets
import time

import structlog
from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from app import metrics
from app.api.access import PlainRoute
from app.api.problems import InternalError, TooLarge, problem_reply
from app.gate import Lane, lane

MAX_BODY_BYTES = 64 * 1024
MAX_WEBHOOK_BYTES = 1024 * 1024
_WEBHOOKS = "/api/webhooks/"
_MOST_DISCARDED_BYTES = 32 * 1024 * 1024
"""So much of a body that is too large is read and thrown away, so that its sender gets to read the answer."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_SECURITY_HEADERS = (  # as ASGI has them: in small letters, and bytes
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

_Headers = dict[bytes, bytes]

log = structlog.get_logger()


class Shell:
    """Wraps the application. Its `state.stop_by()` is when what is in flight is given up; None until the server is asked to end."""

    def __init__(self, app: FastAPI, *, is_https: bool) -> None:
        """
        Args:
            is_https: whether clients reach us by https (PUBLIC_URL says so): then they are told to stay there (RFC 6797).
        """
        self.app = app
        app.state.stop_by = lambda: None
        self._headers: tuple[tuple[bytes, bytes], ...] = _SECURITY_HEADERS
        self._plain = [route for route in app.router.routes if isinstance(route, PlainRoute)]
        if is_https:
            self._headers += ((b"strict-transport-security", b"max-age=31536000; includeSubDomains"),)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))  # the first of those that stand there twice
        given = headers.get(b"x-request-id", b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else b"req_" + secrets.token_urlsafe(9).encode()
        method = scope["method"]
        if method == "HEAD":  # is GET without the body (RFC 9110 section 9.3.2), which the server leaves out by itself
            scope = {**scope, "method": "GET"}
        # The server gives each request a task, and so a context of its own: nothing needs to be taken back.
        lane.set(Lane.LOOK if scope["method"] == "GET" else Lane.REST)
        bind_contextvars(request_id=request_id.decode())
        await self._answer(scope, headers, _LimitedBody(receive, _most_bytes(scope)), send, request_id, method)

    async def _answer(
        self, scope: Scope, headers: _Headers, body: "_LimitedBody", send: Send, request_id: bytes, method: str
    ) -> None:
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                names = {name for name, _ in message["headers"]}
                ours = [(b"x-request-id", request_id), *(header for header in self._headers if header[0] not in names)]
                if status == TooLarge.http_status or self.app.state.stop_by() is not None:
                    ours.append((b"connection", b"close"))
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        try:
            if _declared_length(headers) > body.most_bytes:
                if b"expect" not in headers:
                    await body.discard()
                await problem_reply(TooLarge(), scope["path"])(scope, body.receive, send_with_headers)
            else:
                await self._served_by(scope)(scope, body.receive, send_with_headers)
        except asyncio.CancelledError:
            # The server gives up who still waits as it ends; its own answer to them would be none of ours.
            if status == 0:
                await problem_reply(InternalError(), scope["path"])(scope, body.receive, send_with_headers)
            raise
        except Exception:
            log.exception("http.failed", method=method, route=_route(scope))
            if status == 0:
                await problem_reply(InternalError(), scope["path"])(scope, body.receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - started
            route = _route(scope)
            metrics.HTTP_REQUESTS.labels(method if method in _METHODS else "other", route, status).inc()
            metrics.HTTP_SECONDS.labels(route).observe(seconds)
            log.info("http.request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))

    def _served_by(self, scope: Scope) -> ASGIApp:
        for route in self._plain:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found, app=self.app)
                return route.serve
        return self.app


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _route(scope: Scope) -> str:
    """The route's pattern, never the path itself: paths can hold secrets."""
    return getattr(scope.get("route"), "path_format", "unknown")


def _most_bytes(scope: Scope) -> int:
    """How much a request's body may hold: providers' webhooks aren't ours to shape."""
    return MAX_WEBHOOK_BYTES if scope["path"].startswith(_WEBHOOKS) else MAX_BODY_BYTES


def _declared_length(headers: _Headers) -> int:
    text = headers.get(b"content-length", b"0")
    return int(text) if text.isdigit() else 0


class _LimitedBody:
    """A request's body, of at most so many bytes, whether or not it declares its length."""

    def __init__(self, receive: Receive, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._receive = receive
        self._received = 0

    async def receive(self) -> Message:
        """
        Raises:
            TooLarge: it goes on beyond the limit.
        """
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self.most_bytes:
            if message.get("more_body"):
                await self.discard()
            raise TooLarge
        return message

    async def discard(self) -> None:
        discarded = 0
        while discarded < _MOST_DISCARDED_BYTES:
            message = await self._receive()
            discarded += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body"):
                return
