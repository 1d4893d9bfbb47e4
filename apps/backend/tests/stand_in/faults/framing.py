"""Faults of HTTP framing: lengths, chunks, headers and status lines that are wrong, odd or without end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.stand_in.faults.base import Act, Fault, Seen, both, breaking, sending
from tests.stand_in.wire import frame

if TYPE_CHECKING:
    from tests.stand_in.exchange import Exchange

Make = Callable[["Exchange"], bytes]
MIB = 1024 * 1024
_CLOSING = "Connection: close\r\n"


def _json(exchange: Exchange) -> bytes:
    return json.dumps(exchange.good_body).encode()


def _headed(head: str, body: Callable[[Exchange], bytes] = _json) -> Make:
    """A good body under a hand-written head; `{n}` is the body's length."""

    def make(exchange: Exchange) -> bytes:
        data = body(exchange)
        return head.replace("{n}", str(len(data))).encode("latin-1") + b"\r\n" + data

    return make


def _lengths(*lengths: str) -> Make:
    lines = "".join(f"Content-Length: {length}\r\n" for length in lengths)
    return _headed("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + lines)


def _length_off(by: int) -> Make:
    def make(exchange: Exchange) -> bytes:
        data = _json(exchange)
        return frame(200, data, {"Content-Type": "application/json", "Content-Length": str(len(data) + by)})

    return make


def _chunks(
    *, ends: str = "0\r\n\r\n", size: str | None = None, parts: int = 2, crlf: str = "\r\n", te: str = "chunked"
) -> Make:
    """The good body in `parts` chunks; `size` replaces each chunk's size."""

    def body(exchange: Exchange) -> bytes:
        data = _json(exchange)
        step = max(1, -(-len(data) // parts))
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        lines = [(size or f"{len(piece):x}").encode() + b"\r\n" + piece + crlf.encode() for piece in pieces]
        return b"".join(lines) + ends.encode()

    return _headed(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: {te}\r\n", body)


def _with_header(line: str) -> Make:
    return _headed(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{line}\r\nContent-Length: {{n}}\r\n")


def _status_line(line: str) -> Make:
    return _headed(f"{line}\r\nContent-Type: application/json\r\nContent-Length: {{n}}\r\n")


def _half(exchange: Exchange) -> bytes:
    return _json(exchange)[:-40]


def _raw(data: bytes) -> Make:
    return lambda _: data


def _two_answers(exchange: Exchange) -> bytes:
    """The second lies in the connection until the next request takes it for its own answer."""
    return exchange.good_frame() + exchange.good_frame()


def _idle_408(exchange: Exchange) -> bytes:
    return exchange.good_frame() + frame(
        408, "idle for too long", {"Connection": "close", "Content-Type": "text/plain"}
    )


def _endless(head: bytes, unit: bytes) -> Act:
    async def act(exchange: Exchange) -> None:
        await exchange.connection.send(head)
        while exchange.connection.is_open:
            await exchange.connection.send(unit)
            await asyncio.sleep(0)  # a fast reader would never let `send` wait, and nobody else run

    return act


def _broken(name: str, says: str, make: Make) -> Fault:
    return Fault(name, says, breaking(make), issues=True, seen=Seen.BROKEN)


def _whole(name: str, says: str, make: Make, status: int = 200) -> Fault:
    """A complete answer that is unusual or cut in its JSON; the connection is kept."""
    return Fault(name, says, sending(make), issues=True, seen=Seen.ANSWER, status=status)


def _last(name: str, says: str, make: Make, status: int = 200) -> Fault:
    """A complete answer whose end is the end of the connection."""
    return Fault(name, says, breaking(make), issues=True, seen=Seen.ANSWER, status=status)


_OK = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

FAULTS = (
    # How long the body is
    _last("half_json", "half a JSON, ended by closing", _headed(_OK + _CLOSING, _half)),
    _whole(
        "half_json_sized", "half a JSON, its length declared right", _headed(_OK + "Content-Length: {n}\r\n", _half)
    ),
    _last("no_length", "a good answer, ended by closing", _headed(_OK + _CLOSING)),
    _last("http_1_0", "a good answer in HTTP/1.0", _headed("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n")),
    _broken("length_too_long", "Content-Length 100 too long, then closes", _length_off(100)),
    _broken("length_too_short", "Content-Length 40 too short, then closes", _length_off(-40)),
    _broken("length_negative", "Content-Length: -1", _lengths("-1")),
    _broken("length_text", "Content-Length: many", _lengths("many")),
    _broken("length_plus", "Content-Length with a plus sign", _lengths("+{n}")),
    _broken("length_huge", "Content-Length of 10^30", _lengths(str(10**30))),
    _broken("length_twice", "two Content-Lengths that differ", _lengths("{n}", "10")),
    _broken("length_zero", "Content-Length: 0 before a good body", _lengths("0")),
    # Chunks
    _whole("chunked", "a good answer in chunks", _chunks()),
    _whole("chunked_bytes", "a good answer in chunks of one byte", _chunks(parts=10_000)),
    _whole("chunked_trailers", "a good answer in chunks, trailers behind", _chunks(ends="0\r\nX-Sum: 1\r\n\r\n")),
    _broken("chunked_no_end", "chunks without the last one, then closes", _chunks(ends="")),
    _broken(
        "chunked_cut", "a chunk shorter than its size, then closes", _chunks(size="fff", parts=1, ends="", crlf="")
    ),
    _broken("chunked_bad_size", "a chunk size that is no number", _chunks(size="xyz")),
    _broken("chunked_negative_size", "a negative chunk size", _chunks(size="-5")),
    _broken("chunked_huge_size", "a chunk size of 2^128", _chunks(size="1" + "0" * 32)),
    _broken("chunked_no_crlf", "chunks without CRLF behind them", _chunks(crlf="")),
    _broken("chunked_twice", "Transfer-Encoding: chunked, chunked", _chunks(te="chunked, chunked")),
    _broken("chunked_and_length", "both chunked and a Content-Length", _chunks(te="chunked\r\nContent-Length: 20")),
    _broken("transfer_unknown", "an unknown Transfer-Encoding", _chunks(te="sideways")),
    _broken("chunked_long_extension", "a chunk extension of 1 MiB", _chunks(size="1;" + "x" * MIB)),
    # Headers
    _broken("header_1mb", "a header of 1 MiB", _with_header("X-Long: " + "x" * MIB)),
    _broken("headers_many", "10,000 headers", _with_header("\r\n".join(f"X-{n}: {n}" for n in range(10_000)))),
    _broken("header_no_colon", "a header without a colon", _with_header("just words")),
    _broken("header_folded", "a header folded over two lines", _with_header("X-A: 1\r\n  2")),
    _broken("header_nul", "a header with a NUL", _with_header("X-A: \0")),
    _broken("header_space", "a space before the colon", _with_header("X-A : 1")),
    _broken("header_no_name", "a header without a name", _with_header(": 1")),
    _whole("header_latin1", "a header in Latin-1", _with_header("X-A: \xe4\xf6\xfc")),
    _whole("header_set_cookie", "a cookie", _with_header("Set-Cookie: session=stolen; Path=/")),
    _broken("bare_lf", "lines ended by LF alone", lambda x: _lengths("{n}")(x).replace(b"\r\n", b"\n")),
    # Status lines, and things that are no HTTP
    _broken("status_line_short", "HTTP/1.1 20", _status_line("HTTP/1.1 20 OK")),
    _broken("status_line_long", "HTTP/1.1 2000", _status_line("HTTP/1.1 2000 OK")),
    _broken("status_line_zero", "HTTP/1.1 000", _status_line("HTTP/1.1 000 OK")),
    _broken("status_line_text", "HTTP/1.1 2OO", _status_line("HTTP/1.1 2OO OK")),
    _broken("status_line_negative", "HTTP/1.1 -200", _status_line("HTTP/1.1 -200 OK")),
    _broken("status_line_alone", "a status line without status", _status_line("HTTP/1.1")),
    _broken("status_line_version", "HTTP/9.9", _status_line("HTTP/9.9 200 OK")),
    _broken("status_line_icy", "ICY 200 OK", _status_line("ICY 200 OK")),
    _whole("status_line_no_reason", "a good answer without a reason phrase", _status_line("HTTP/1.1 200 ")),
    *both("garbage", "random bytes, then closes", breaking(_raw(bytes(range(256)) * 4)), Seen.BROKEN),
    *both("ssh", "an SSH banner, then closes", breaking(_raw(b"SSH-2.0-OpenSSH_9.6\r\n")), Seen.BROKEN),
    *both("http2", "an HTTP/2 preface, then closes", breaking(_raw(b"\0\0\x12\4\0\0\0\0\0" + b"\0" * 18)), Seen.BROKEN),
    *both("tls_alert", "a TLS alert, then closes", breaking(_raw(b"\x15\x03\x01\0\2\2\x28")), Seen.BROKEN),
    *both("blank_lines", "blank lines, then closes", breaking(_raw(b"\r\n" * 50)), Seen.BROKEN),
    _broken("http_0_9", "the good JSON without any head, then closes", _json),
    # Bytes that belong to nobody
    _whole("two_answers", "a good answer twice; the second waits for the next request", _two_answers),
    _last("idle_408", "a good answer, then an unasked 408 and closes", _idle_408),
    # Without end
    *both(
        "endless_headers", "headers without end", _endless(b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n" * 1000), Seen.ENDLESS
    ),
    *both("endless_body", "a body without end", _endless(_OK.encode() + b"\r\n", b" " * 65536), Seen.ENDLESS),
    *both(
        "endless_chunks",
        "chunks without end",
        _endless(_OK.encode() + b"Transfer-Encoding: chunked\r\n\r\n", (b"400\r\n" + b" " * 1024 + b"\r\n") * 64),
        Seen.ENDLESS,
    ),
    *both("endless_line", "a status line without end", _endless(b"HTTP/1.1 200 ", b"O" * 65536), Seen.ENDLESS),
)
