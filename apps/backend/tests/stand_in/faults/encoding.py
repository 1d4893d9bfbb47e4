"""Faults of the body's bytes: too big, compressed oddly, in the wrong character set, no JSON or odd JSON."""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.stand_in.faults.base import Fault, Seen, both, sending
from tests.stand_in.wire import frame

if TYPE_CHECKING:
    from tests.stand_in.exchange import Exchange

MIB = 1024 * 1024
DEFAULT_PLAIN_MIB = 2
DEFAULT_BOMB_MIB = 8
DEFAULT_BIG_BOMB_MIB = 64
DEPTH = 10_000

Of = Callable[[bytes], bytes]


def _text(exchange: Exchange) -> str:
    return json.dumps(exchange.good_body)


def _bytes(name: str, says: str, of: Of, **headers: str) -> Fault:
    """A 200 whose body is made from the good body's bytes. JSON unless Content_Type is given ("" leaves it out)."""
    named = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    kept = {key: value for key, value in named.items() if value}

    def make(exchange: Exchange) -> bytes:
        data = of(_text(exchange).encode())
        return (
            frame(200, data, kept | {"Content-Length": str(len(data))}) if kept.get("Content-Type") else _untyped(data)
        )

    return Fault(name, says, sending(make), issues=True, seen=Seen.ANSWER, status=200)


def _untyped(data: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data


def _static(name: str, says: str, data: bytes, **headers: str) -> tuple[Fault, Fault]:
    """A 200 whose body holds nothing of the order, so that it may come before or after an eSIM was issued."""
    named = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return both(name, says, sending(lambda _: frame(200, data, named)), Seen.ANSWER, 200)


def _replacing(old: str, new: str) -> Of:
    return lambda data: data.replace(old.encode(), new.encode(), 1)


def _inserting(text: str) -> Of:
    """`text` becomes the first members of `data`."""
    return _replacing('{"data": {', '{"data": {' + text + ", ")


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def _big_plain(exchange: Exchange) -> bytes:
    padding = " " * int(exchange.number_arg(DEFAULT_PLAIN_MIB) * MIB)
    return frame(200, _text(exchange)[:-1] + padding + "}")


def _bomb(exchange: Exchange) -> bytes:
    padding = b" " * int(exchange.number_arg(DEFAULT_BOMB_MIB) * MIB)
    data = gzip.compress(_text(exchange).encode()[:-1] + padding + b"}", compresslevel=1)
    return frame(200, data, {"Content-Type": "application/json", "Content-Encoding": "gzip"})


@functools.cache
def _packed_spaces(mib: int, *, twice: bool) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    data = b"".join([*(packer.compress(b" " * MIB) for _ in range(mib)), packer.flush()])
    return gzip.compress(data) if twice else data


def _big_bomb(exchange: Exchange, *, twice: bool = False) -> bytes:
    data = _packed_spaces(int(exchange.number_arg(DEFAULT_BIG_BOMB_MIB)), twice=twice)
    encoding = "gzip, gzip" if twice else "gzip"
    return frame(200, data, {"Content-Type": "application/json", "Content-Encoding": encoding})


def _whole(name: str, says: str, make: Callable[[Exchange], bytes]) -> Fault:
    return Fault(name, says, sending(make), issues=True, seen=Seen.ANSWER, status=200)


_SIZES = (
    _whole("big_plain", f"a good answer of `arg` ({DEFAULT_PLAIN_MIB}) MiB", _big_plain),
    _whole("gzip_bomb", f"a good answer, small in gzip, `arg` ({DEFAULT_BOMB_MIB}) MiB unpacked", _bomb),
    *both(
        "gzip_bomb_big", f"`arg` ({DEFAULT_BIG_BOMB_MIB}) MiB of spaces in gzip", sending(_big_bomb), Seen.ANSWER, 200
    ),
    *both(
        "gzip_bomb_twice",
        f"`arg` ({DEFAULT_BIG_BOMB_MIB}) MiB of spaces in gzip in gzip",
        sending(lambda exchange: _big_bomb(exchange, twice=True)),
        Seen.ANSWER,
        200,
    ),
)

_COMPRESSION = (
    _bytes("gzip", "a good answer in gzip", gzip.compress, Content_Encoding="gzip"),
    _bytes("deflate", "a good answer in deflate", zlib.compress, Content_Encoding="deflate"),
    _bytes("deflate_raw", "a good answer in deflate without zlib's head", _raw_deflate, Content_Encoding="deflate"),
    _bytes("gzip_unnamed", "gzip that no header names", gzip.compress),
    _bytes(
        "gzip_invalid", "bytes that are no gzip, named gzip", lambda _: b"\x1f\x8b not gzip", Content_Encoding="gzip"
    ),
    _bytes("gzip_plain", "plain JSON, named gzip", lambda data: data, Content_Encoding="gzip"),
    _bytes("gzip_cut", "gzip without its end", lambda data: gzip.compress(data)[:-12], Content_Encoding="gzip"),
    _bytes(
        "gzip_wrong_sum",
        "gzip with a wrong checksum",
        lambda d: gzip.compress(d)[:-8] + b"12345678",
        Content_Encoding="gzip",
    ),
    _bytes(
        "gzip_tail", "gzip with bytes behind it", lambda data: gzip.compress(data) + b"tail", Content_Encoding="gzip"
    ),
    _bytes("br", "named Brotli, and isn't", lambda _: b"\x8b\x02\x80 not brotli", Content_Encoding="br"),
    _bytes("br_plain", "plain JSON, named Brotli", lambda data: data, Content_Encoding="br"),
    _bytes("zstd", "named zstd, and isn't", lambda _: b"\x28\xb5\x2f\xfd not zstd", Content_Encoding="zstd"),
    _bytes("encoding_unknown", "plain JSON in an unknown encoding", lambda data: data, Content_Encoding="sideways"),
    _bytes("encoding_identity", "a good answer, named identity", lambda data: data, Content_Encoding="identity"),
    _bytes(
        "encoding_many",
        "plain JSON, named gzip a hundred times",
        lambda d: d,
        Content_Encoding=", ".join(["gzip"] * 100),
    ),
)

_CHARACTERS = (
    _bytes("utf16", "a good answer in UTF-16", lambda data: data.decode().encode("utf-16")),
    _bytes(
        "utf16_named",
        "in UTF-16, and says so",
        lambda d: d.decode().encode("utf-16"),
        Content_Type="application/json; charset=utf-16",
    ),
    _bytes("utf32", "a good answer in UTF-32", lambda data: data.decode().encode("utf-32")),
    _bytes("utf8_bom", "a good answer behind a UTF-8 BOM", lambda data: b"\xef\xbb\xbf" + data),
    _bytes(
        "utf8_invalid",
        "bytes that are no UTF-8 in a text",
        lambda d: _inserting('"note": "~"')(d).replace(b"~", b"\xff\xc0"),
    ),
    _bytes("utf7_named", "a good answer, charset=utf-7", lambda d: d, Content_Type="application/json; charset=utf-7"),
    _bytes(
        "charset_unknown",
        "a good answer, charset=klingon",
        lambda d: d,
        Content_Type="application/json; charset=klingon",
    ),
    _bytes(
        "charset_rot13",
        "a good answer, charset=rot13, a codec of Python",
        lambda d: d,
        Content_Type="application/json; charset=rot13",
    ),
    _bytes("surrogate", "a lone surrogate in a text", _inserting('"note": "\\ud800"')),
    _bytes("nul_character", "\\u0000 in a text, which PostgreSQL refuses", _inserting('"note": "a\\u0000b"')),
    _bytes("nul_byte", "a raw NUL byte behind the JSON", lambda data: data + b"\0"),
    _bytes("control_character", "a raw control character in a text", _inserting('"note": "a\x01b"')),
)

_SYNTAX = (
    *_static("not_json", "200 with plain text, named JSON", b"OK, thanks"),
    *_static("html", "200 with HTML", b"<!doctype html><title>Maintenance</title>", Content_Type="text/html"),
    *_static("empty", "an empty 200", b""),
    *_static("spaces", "200 with spaces", b" \r\n\t "),
    *_static("json_array", "200 with []", b"[]"),
    *_static("json_null", "200 with null", b"null"),
    *_static("json_true", "200 with true", b"true"),
    *_static("json_number", "200 with 42", b"42"),
    *_static("json_string", "200 with a string", b'"LPA:1$RSP.STAND-IN.EXAMPLE$IN-A-STRING"'),
    *_static("json_empty", "200 with {}", b"{}"),
    *_static("depth_arrays", f"arrays {DEPTH} deep", b"[" * DEPTH + b"]" * DEPTH),
    *_static("depth_objects", f"objects {DEPTH} deep", b'{"data":' * DEPTH + b"1" + b"}" * DEPTH),
    *_static("depth_unclosed", "100,000 opening brackets", b"[" * 100_000),
    _bytes("nan", "a good answer with NaN in it", _inserting('"price": NaN')),
    _bytes("infinity", "a good answer with -Infinity in it", _inserting('"price": -Infinity')),
    _bytes("number_huge", "an integer of 10,000 digits", _inserting('"price": ' + "9" * 10_000)),
    _bytes("number_1e999", "1e999, which a float can't hold", _inserting('"price": 1e999')),
    _bytes(
        "keys_twice",
        "activationCode twice, another one first",
        _inserting('"activationCode": "LPA:1$OTHER.EXAMPLE$OTHER"'),
    ),
    _bytes("data_twice", "`data` twice, an empty one last", lambda data: data[:-1] + b', "data": {}}'),
    _bytes("two_documents", "two JSON documents", lambda data: data + data),
    _bytes("trailing_comma", "a trailing comma", lambda data: data[:-2] + b",}}"),
    _bytes("comment", "JSON with a comment", lambda data: b"/* yours */" + data),
    _bytes("single_quotes", "JSON in single quotes", lambda data: data.replace(b'"', b"'")),
    _bytes("xssi_prefix", "JSON behind )]}'", lambda data: b")]}'\n" + data),
    _bytes("json_in_string", "the good JSON as a JSON string", lambda data: json.dumps(data.decode()).encode()),
    _bytes("ndjson", "a line of JSON before the good one", lambda data: b'{"event":"start"}\n' + data),
)

_TYPES = (
    _bytes("type_html", "good JSON, named text/html", lambda data: data, Content_Type="text/html"),
    _bytes("type_text", "good JSON, named text/plain", lambda data: data, Content_Type="text/plain"),
    _bytes("type_none", "good JSON without a Content-Type", lambda data: data, Content_Type=""),
    _bytes("type_garbage", "good JSON, Content-Type: ;;;=", lambda data: data, Content_Type=";;;="),
    _bytes(
        "type_vendor", "good JSON, named application/vnd.api+json", lambda d: d, Content_Type="application/vnd.api+json"
    ),
    _bytes("type_form", "good JSON, named as a form", lambda d: d, Content_Type="application/x-www-form-urlencoded"),
    _bytes("type_stream", "good JSON, named text/event-stream", lambda data: data, Content_Type="text/event-stream"),
)

FAULTS = (*_SIZES, *_COMPRESSION, *_CHARACTERS, *_SYNTAX, *_TYPES)
