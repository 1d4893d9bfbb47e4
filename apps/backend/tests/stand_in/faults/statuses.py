"""
Faults of the status line: refusals, errors, redirects, interim answers.

Statuses that Tribi takes for a refusal (4xx but 408, 409, 425) exist only in the form that issued nothing: a supplier
that bills and says "refused" can't be survived by anyone. `respond(402, issue=True)` makes one where a test wants it.
Every body repeats the buyer's e-mail address and our key, as real suppliers do, so that redaction is put to the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

from tests.stand_in.faults.base import Fault, Seen, both, breaking, sending
from tests.stand_in.wire import frame

if TYPE_CHECKING:
    from tests.stand_in.exchange import Exchange

REFUSALS = (
    400,
    401,
    402,
    403,
    404,
    405,
    406,
    410,
    411,
    412,
    413,
    415,
    417,
    418,
    421,
    422,
    423,
    424,
    426,
    428,
    431,
    451,
)
ERRORS = (408, 409, 425, 500, 501, 505, 507, 508, 511, 520, 599, 600, 999)
GATEWAY_ERRORS = (502, 503, 504)
REDIRECTS = (300, 301, 302, 303, 305, 307, 308)
DEFAULT_RETRY_S = 2


def _telling(status: int, **headers: str) -> Callable[[Exchange], bytes]:
    """An error body that repeats what it should not."""

    def make(exchange: Exchange) -> bytes:
        customer = exchange.order.get("customer", {})
        body = {
            "error": {
                "code": f"E{status}",
                "message": f"order of {customer.get('email')} not accepted for key {exchange.key}",
                "request": exchange.order,
            }
        }
        return frame(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    return make


def _html(status: int) -> Callable[[Exchange], bytes]:
    def make(_: Exchange) -> bytes:
        body = f"<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>nginx</body></html>"
        return frame(status, body, {"Content-Type": "text/html"})

    return make


def _rate_limited(retry_after: Callable[[int], tuple[str, ...]]) -> Callable[[Exchange], bytes]:
    def make(exchange: Exchange) -> bytes:
        values = retry_after(int(exchange.number_arg(DEFAULT_RETRY_S)))
        return frame(429, {"error": "too many requests"}, [("Retry-After", value) for value in values])

    return make


def _http_date(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


_RETRY_AFTER: dict[str, tuple[str, Callable[[int], tuple[str, ...]]]] = {
    "status_429": ("no Retry-After", lambda _: ()),
    "status_429_seconds": (f"Retry-After of `arg` ({DEFAULT_RETRY_S}) seconds", lambda s: (str(s),)),
    "status_429_date": (
        f"Retry-After as an HTTP date `arg` ({DEFAULT_RETRY_S}) s from now",
        lambda s: (_http_date(s),),
    ),
    "status_429_past": ("Retry-After as an HTTP date an hour ago", lambda _: (_http_date(-3600),)),
    "status_429_garbage": ("Retry-After: soon", lambda _: ("soon",)),
    "status_429_negative": ("Retry-After: -5", lambda _: ("-5",)),
    "status_429_fraction": ("Retry-After: 1.5", lambda _: ("1.5",)),
    "status_429_huge": ("Retry-After of 10^30 seconds", lambda _: (str(10**30),)),
    "status_429_twice": ("two Retry-After headers", lambda s: (str(s), "soon")),
    "status_429_empty": ("an empty Retry-After", lambda _: ("",)),
}


def _redirect(status: int) -> Callable[[Exchange], bytes]:
    def make(exchange: Exchange) -> bytes:
        target = f"http://127.0.0.1:{exchange.fault.arg}" if exchange.fault.arg else exchange.stand_in.redirect_to
        return frame(status, {"moved": True}, {"Location": target + "/partners/orders"})

    return make


def _redirect_to(location: str | None) -> Callable[[Exchange], bytes]:
    return lambda _: frame(307, {"moved": True}, {"Location": location} if location is not None else {})


def _well(status: int) -> Callable[[Exchange], bytes]:
    return lambda exchange: frame(status, exchange.good_body)


def _interim(lines: str, times: int = 1) -> Callable[[Exchange], bytes]:
    return lambda exchange: (lines.encode() + b"\r\n") * times + exchange.good_frame()


def _lone(lines: str) -> Callable[[Exchange], bytes]:
    return lambda _: lines.encode() + b"\r\n"


async def _lone_103_and_hang(exchange: Exchange) -> None:
    await exchange.connection.send(_EARLY_HINTS.encode() + b"\r\n")
    await exchange.hang()


async def _endless_103(exchange: Exchange) -> None:
    while exchange.connection.is_open:
        await exchange.connection.send((_EARLY_HINTS.encode() + b"\r\n") * 100)
        await asyncio.sleep(0)  # a fast reader would never let `send` wait, and nobody else run


_EARLY_HINTS = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n"
_CONTINUE = "HTTP/1.1 100 Continue\r\n"
_SWITCHING = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


def _good(name: str, says: str, make: Callable[[Exchange], bytes], status: int = 200) -> Fault:
    return Fault(name, says, sending(make), issues=True, seen=Seen.ANSWER, status=status)


FAULTS = (
    *(
        Fault(f"status_{s}", f"refuses with {s}", sending(_telling(s)), issues=False, seen=Seen.ANSWER, status=s)
        for s in REFUSALS
    ),
    *(
        Fault(name, f"429, {says}", sending(_rate_limited(values)), issues=False, seen=Seen.ANSWER, status=429)
        for name, (says, values) in _RETRY_AFTER.items()
    ),
    *(row for s in ERRORS for row in both(f"status_{s}", f"{s} in JSON", sending(_telling(s)), Seen.ANSWER, s)),
    *(row for s in GATEWAY_ERRORS for row in both(f"status_{s}", f"{s} in HTML", sending(_html(s)), Seen.ANSWER, s)),
    *both("status_503_later", "503, Retry-After: 2", sending(_telling(503, Retry_After="2")), Seen.ANSWER, 503),
    *both("status_202", "202 without an eSIM", sending(lambda _: frame(202, {"accepted": True})), Seen.ANSWER, 202),
    *both("status_204", "204", sending(lambda _: frame(204)), Seen.ANSWER, 204),
    *both("status_304", "304", sending(lambda _: frame(304)), Seen.ANSWER, 304),
    *(_good(f"status_{s}_good", f"a good answer, with {s}", _well(s), s) for s in (201, 202, 203, 205, 206, 226, 299)),
    *(
        row
        for s in REDIRECTS
        for row in both(f"redirect_{s}", f"{s} to `arg` (a port) or redirect_to", sending(_redirect(s)), Seen.ANSWER, s)
    ),
    *both("redirect_self", "307 to itself", sending(_redirect_to("/partners/orders")), Seen.ANSWER, 307),
    *both("redirect_nowhere", "307 without Location", sending(_redirect_to(None)), Seen.ANSWER, 307),
    *both("redirect_file", "307 to a file: URL", sending(_redirect_to("file:///etc/hostname")), Seen.ANSWER, 307),
    _good("interim_100", "100, then a good answer", _interim(_CONTINUE)),
    _good("interim_103", "103, then a good answer", _interim(_EARLY_HINTS)),
    _good("interim_103_many", "a thousand 103, then a good answer", _interim(_EARLY_HINTS, 1000)),
    *both("lone_100", "a lone 100, then closes", breaking(_lone(_CONTINUE)), Seen.BROKEN),
    *both("lone_103", "a lone 103, then closes", breaking(_lone(_EARLY_HINTS)), Seen.BROKEN),
    *both("lone_101", "switches protocols, then closes", breaking(_lone(_SWITCHING)), Seen.BROKEN),
    *both("lone_103_hang", "a lone 103, then hangs", _lone_103_and_hang, Seen.STALLED),
    *both("endless_103", "103 without end", _endless_103, Seen.ENDLESS),
)
