"""Good answers made hostile: seeded mutations of the document, of its bytes and of the HTTP around it."""

import gzip
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.stand_in import Issued
from tests.stand_in.contract import strict_json
from tests.stand_in.wire import frame

Document = dict[str, Any]

_ODD = "\r\n\t\0\x1b\u202e\u200b\u00a0\ufeff\uff04\u2028😀é<>&'\"\\;|`{{}}%0a$"
_STATUSES = (200, 200, 200, 201, 202, 203, 204, 206, 299, 301, 303, 400, 402, 409, 422, 425, 429, 500, 502, 503)


@dataclass(frozen=True, slots=True)
class Mutated:
    """
    `kinds`: what was done, in order. `raw`: all bytes of the answer. `body`: None where the framing may have changed it.
    `status`: None where the status line may not say it any more.
    """

    kinds: tuple[str, ...]
    raw: bytes
    body: bytes | None
    status: int | None


def readable_code(body: bytes, reference: str) -> str | None:
    """The code that the contract's own reading finds for this order: UTF-8, each key once, all where it belongs."""
    try:
        document = strict_json(body)
    except (ValueError, RecursionError):
        return None
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, dict) or data.get("orderReference") != reference:
        return None
    code = data.get("activationCode")
    return code if isinstance(code, str) else None


def mutated(draw: random.Random, good: Issued, other: Issued) -> Mutated:
    """
    One to three mutations of the good answer for an order.

    Args:
        other: an eSIM of an earlier order, to be mixed in.
    """
    kinds: list[str] = []
    document: Document = json.loads(json.dumps(good.answer()))
    stages = draw.choice(("d", "d", "dd", "b", "b", "bb", "db", "e", "de", "f", "f", "df", "bf", "ef"))
    for _ in range(stages.count("d")):
        _document(draw, document, good, other, kinds)
    body = json.dumps(document, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    headers = {"Content-Type": "application/json"}
    if "e" in stages:
        body = _chosen(draw, _ENCODINGS, kinds)(body, headers)
    for _ in range(stages.count("b")):
        body = _chosen(draw, _BYTES, kinds)(draw, body)
    status = draw.choice(_STATUSES) if draw.random() < 0.15 else 200
    if "f" in stages:
        raw, is_same = _chosen(draw, _FRAMES, kinds)(draw, status, body, headers)
        return Mutated(tuple(kinds), raw, body if is_same else None, status if is_same else None)
    return Mutated(tuple(kinds), frame(status, body, headers), body if status not in (204, 304) else b"", status)


def _chosen(draw: random.Random, table: dict[str, Any], kinds: list[str]) -> Any:
    name = draw.choice(list(table))
    kinds.append(name)
    return table[name]


# --- the document


def _document(draw: random.Random, document: Document, good: Issued, other: Issued, kinds: list[str]) -> None:
    data = document.get("data")
    if not isinstance(data, dict) or not data:
        document["data"] = good.answer()["data"]
        return
    _chosen(draw, _DOCUMENTS, kinds)(draw, document, data, other)


def _some_value(draw: random.Random) -> Any:
    return draw.choice(
        (None, True, False, 0, -1, 1.5, 10**30, "", " ", "LPA:1$", "1$", [], {}, ["LPA:1$A$B"], {"a": 1}, "x" * 5000)
    )


def _with_odd(draw: random.Random, value: object) -> str:
    text, place = str(value), draw.randrange(len(str(value)) + 1)
    return text[:place] + draw.choice(_ODD) * draw.choice((1, 1, 3)) + text[place:]


def _nested(draw: random.Random, document: Document, data: Document) -> None:
    inner: Any = data
    for _ in range(draw.choice((1, 2, 50, 400))):
        inner = {"data": inner} if draw.random() < 0.5 else [inner]
    document["data"] = inner


DocumentAct = Callable[[random.Random, Document, Document, Issued], object]
_DOCUMENTS: dict[str, DocumentAct] = {
    "member-removed": lambda draw, _, data, __: data.pop(draw.choice(list(data))),
    "member-changed": lambda draw, _, data, __: data.update({draw.choice(list(data)): _some_value(draw)}),
    "member-added": lambda draw, _, data, __: data.update({_with_odd(draw, "extra"): _some_value(draw)}),
    "member-renamed": lambda draw, _, data, __: data.update(
        {draw.choice(("ACTIVATIONCODE", "code")): data.popitem()[1]}
    ),
    "members-swapped": lambda draw, _, data, __: data.update(
        zip(data, draw.sample(list(data.values()), len(data)), strict=True)
    ),
    "odd-characters": lambda draw, _, data, __: [
        data.update({key: _with_odd(draw, data[key])}) for key in [draw.choice(list(data))]
    ],
    "odd-code": lambda draw, _, data, __: data.update(activationCode=_with_odd(draw, data.get("activationCode"))),
    "other-reference": lambda _, __, data, other: data.update(orderReference=other.reference),
    "other-reference-as-number": lambda _, __, data, other: data.update(orderReference=int(other.reference[6:])),
    "other-reference-and-code": lambda _, __, data, other: data.update(other.answer()["data"]),
    "other-code": lambda _, __, data, other: data.update(activationCode=other.activation_code),
    "other-iccid": lambda _, __, data, other: data.update(iccid=other.iccid),
    "reference-reformatted": lambda _, __, data, ___: data.update(
        orderReference=f" {data.get('orderReference')}\n".upper()
    ),
    "iccid-as-number": lambda draw, _, data, __: data.update(iccid=draw.randrange(10**18, 10**19)),
    "nested": lambda draw, document, data, _: _nested(draw, document, data),
    "listed": lambda _, document, data, other: document.update(data=[other.answer()["data"], data]),
    "beside": lambda _, document, __, other: document.update(error="no", order=other.answer()["data"]),
    "unwrapped": lambda _, document, data, __: (document.pop("data"), document.update(data)),
    "huge": lambda _, __, data, ___: data.update(instructions="i" * 100_000),
}

# --- its bytes


def _place(draw: random.Random, body: bytes) -> int:
    return draw.randrange(len(body) + 1)


def _span(draw: random.Random, body: bytes) -> tuple[int, int]:
    start = _place(draw, body)
    return start, min(len(body), start + draw.choice((1, 2, 8, 40)))


def _flipped(draw: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _inserted(draw: random.Random, body: bytes) -> bytes:
    place = _place(draw, body)
    return body[:place] + draw.randbytes(draw.choice((1, 2, 16))) + body[place:]


def _cut(draw: random.Random, body: bytes) -> bytes:
    start, end = _span(draw, body)
    return draw.choice((body[:start], body[start:], body[:start] + body[end:]))


def _repeated(draw: random.Random, body: bytes) -> bytes:
    start, end = _span(draw, body)
    return body[:end] + body[start:end] * draw.choice((1, 2, 100)) + body[end:]


def _moved(draw: random.Random, body: bytes) -> bytes:
    start, end = _span(draw, body)
    rest = body[:start] + body[end:]
    place = _place(draw, rest)
    return rest[:place] + body[start:end] + rest[place:]


_BYTES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "flipped": _flipped,
    "inserted": _inserted,
    "cut": _cut,
    "repeated": _repeated,
    "moved": _moved,
    "twice": lambda _, body: body + body,
    "key-twice": lambda draw, body: (
        body.replace(b'"activationCode"', b'"activationCode": "1$X$Y", "activationCode"')
        if draw.random() < 0.5
        else body.replace(b'"iccid"', b'"activationCode": null, "iccid"')
    ),
    "constants": lambda draw, body: body.replace(
        b'"data"', b'"n": %s, "data"' % draw.choice((b"NaN", b"1e999", b"-0"))
    ),
    "escaped": lambda _, body: body.replace(b"LPA", b"\\u004c\\u0050\\u0041").replace(b"order-", b"\\u006frder-"),
    "half-characters": lambda _, body: body.replace(b"Scan", b"\\ud83d Scan"),
    "white-space": lambda draw, body: draw.choice((b"\n\t ", b"\x0b", b"\xc2\xa0")) + body,
    "prefixed": lambda draw, body: draw.choice((b"\xef\xbb\xbf", b")]}',\n", b"\0", b"//")) + body,
    "capitals": lambda _, body: body.swapcase(),
    "emptied": lambda _, __: b"",
    "random": lambda draw, _: draw.randbytes(draw.randrange(2000)),
}

# --- its encoding


def _packed(pack: Callable[[bytes], bytes], name: str) -> Callable[[bytes, dict[str, str]], bytes]:
    def act(body: bytes, headers: dict[str, str]) -> bytes:
        if name:
            headers["Content-Encoding"] = name
        return pack(body)

    return act


def _recoded(encoding: str, *, is_named: bool) -> Callable[[bytes, dict[str, str]], bytes]:
    def act(body: bytes, headers: dict[str, str]) -> bytes:
        if is_named:
            headers["Content-Type"] = f"application/json; charset={encoding}"
        return body.decode("utf-8", "replace").encode(encoding, "replace")

    return act


_ENCODINGS: dict[str, Callable[[bytes, dict[str, str]], bytes]] = {
    **{
        f"{encoding}{'-named' if is_named else ''}": _recoded(encoding, is_named=is_named)
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp1252", "cp037", "utf-8-sig")
        for is_named in (True, False)
    },
    "gzip": _packed(gzip.compress, "gzip"),
    "gzip-unnamed": _packed(gzip.compress, ""),
    "gzip-cut": _packed(lambda body: gzip.compress(body)[:-12], "gzip"),
    "gzip-only-said": _packed(lambda body: body, "gzip"),
    "gzip-twice": _packed(lambda body: gzip.compress(gzip.compress(body)), "gzip, gzip"),
    "deflate": _packed(zlib.compress, "deflate"),
    "br-only-said": _packed(lambda body: body, "br"),
}

# --- the HTTP around it

Frame = Callable[[random.Random, int, bytes, dict[str, str]], tuple[bytes, bool]]


def _chunked(
    draw: random.Random, status: int, body: bytes, headers: dict[str, str], *, end: bytes = b"0\r\n\r\n"
) -> bytes:
    chunks = b""
    while body:
        size = draw.randrange(1, 200)
        chunks += b"%x\r\n%s\r\n" % (len(body[:size]), body[:size])
        body = body[size:]
    return frame(status, chunks + end, headers | {"Transfer-Encoding": "chunked"})


def _head_flipped(draw: random.Random, status: int, body: bytes, headers: dict[str, str]) -> bytes:
    head, _, rest = frame(status, body, headers).partition(b"\r\n\r\n")
    return _flipped(draw, head) + b"\r\n\r\n" + rest


def _head_cut(draw: random.Random, status: int, body: bytes, headers: dict[str, str]) -> bytes:
    raw = frame(status, body, headers)
    return raw[: draw.randrange(len(raw))]


def _wrong_length(draw: random.Random, status: int, body: bytes, headers: dict[str, str]) -> bytes:
    length = draw.choice((0, 1, len(body) - 1, len(body) + 1, len(body) // 2, 10**12, -1))
    return frame(status, body, headers | {"Content-Length": str(length)})


_FRAMES: dict[str, Frame] = {
    "chunked": lambda draw, *answer: (_chunked(draw, *answer), answer[0] not in (204, 304)),
    "chunked-without-end": lambda draw, *answer: (_chunked(draw, *answer, end=b""), False),
    "chunked-wrong-end": lambda draw, *answer: (_chunked(draw, *answer, end=b"zz\r\n"), False),
    "wrong-length": lambda draw, *answer: (_wrong_length(draw, *answer), False),
    "head-flipped": lambda draw, *answer: (_head_flipped(draw, *answer), False),
    "head-cut": lambda draw, *answer: (_head_cut(draw, *answer), False),
    "line-feeds-only": lambda _, *answer: (frame(*answer).replace(b"\r\n", b"\n"), False),
    "interim": lambda draw, *answer: (
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * draw.choice((1, 20)) + frame(*answer),
        False,
    ),
    "answered-twice": lambda draw, *answer: (frame(*answer) + frame(draw.choice(_STATUSES), b"{}"), False),
    "headers-added": lambda draw, status, body, headers: (
        frame(status, body, headers | {f"X-{n}": "y" * draw.randrange(60) for n in range(40)}),
        status not in (204, 304),
    ),
}
