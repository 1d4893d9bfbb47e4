"""
Faults of what the answer says: an order's data missing, misshapen, odd, or another order's.

Where the answer's code is odd but begins like one, it is this code that was sold and is on the ledger (`code_of`);
where it is unusable, the ledger holds a good code, which is what a person would find in the supplier's portal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.stand_in.faults.base import Fault, Seen, both, sending
from tests.stand_in.issuing import SMDP_ADDRESS, Issued, luhn_digit
from tests.stand_in.wire import frame

if TYPE_CHECKING:
    from tests.stand_in.exchange import Exchange

Data = dict[str, Any]
MISSING = object()


def _shaped(name: str, says: str, of: Callable[[Data], object]) -> Fault:
    """A 200 whose JSON is made from the good `data`."""
    act = sending(lambda exchange: _json_frame(of(exchange.good_body["data"])))
    return Fault(name, says, act, issues=True, seen=Seen.ANSWER, status=200)


def _json_frame(body: object) -> bytes:
    return frame(200, body if isinstance(body, dict | list) else None)


def _with(key: str, value: object | Callable[[str], object]) -> Callable[[Data], object]:
    """The good answer, one of its members replaced (a function gets the good value) or MISSING."""

    def of(data: Data) -> object:
        made = value(data[key]) if callable(value) else value
        rest = {name: old for name, old in data.items() if name != key}
        return {"data": rest if made is MISSING else {**rest, key: made}}

    return of


def _member(name: str, says: str, key: str, value: object | Callable[[str], object]) -> Fault:
    return _shaped(name, says, _with(key, value))


def _odd_code(name: str, says: str, code_of: Callable[[str], str]) -> Fault:
    """The eSIM is sold under an odd code; the answer is good but for that."""
    act = sending(lambda exchange: frame(200, exchange.good_body))
    return Fault(name, says, act, issues=True, seen=Seen.ANSWER, status=200, code_of=code_of)


def _of_earlier(name: str, says: str, mix: Callable[[Data, Issued], object]) -> Fault:
    """Something of the latest other order's; a good answer while there is none."""

    def make(exchange: Exchange) -> bytes:
        earlier = exchange.earlier()
        return _json_frame(mix(exchange.good_body["data"], earlier)) if earlier else exchange.good_frame()

    return Fault(name, says, sending(make), issues=True, seen=Seen.ANSWER, status=200)


def _matching_id(code: str) -> str:
    return code.rpartition("$")[2]


def _twenty_digits(iccid: str) -> str:
    body = iccid[:-1] + "0"
    return body + luhn_digit(body)


_ERROR = {"error": {"code": "OUT_OF_STOCK", "message": "this plan is sold out"}}
_PERSIAN_DIGITS = str.maketrans("0123456789", "".join(chr(0x6F0 + digit) for digit in range(10)))

_DATA = (
    _shaped("data_missing", "no `data`", lambda data: {"order": data["orderReference"], "ok": True}),
    _shaped("data_null", "`data` is null", lambda _: {"data": None}),
    _shaped("data_empty", "`data` is {}", lambda _: {"data": {}}),
    _shaped("data_text", "`data` is the code itself", lambda data: {"data": data["activationCode"]}),
    _shaped("data_number", "`data` is a number", lambda _: {"data": 7}),
    _shaped("data_list", "`data` is a list of one", lambda data: {"data": [data]}),
    _shaped("data_list_two", "`data` is a list of two", lambda data: {"data": [data, data]}),
    _shaped("data_list_empty", "`data` is an empty list", lambda _: {"data": []}),
    _shaped(
        "data_partial", "`data` with the reference alone", lambda d: {"data": {"orderReference": d["orderReference"]}}
    ),
    _shaped("data_nested", "`data` in `data`", lambda data: {"data": {"data": data}}),
    _shaped("data_unwrapped", "the members of `data` without `data`", lambda data: data),
    _shaped("data_listed", "the whole answer in a list", lambda data: [{"data": data}]),
    _shaped("data_snake_case", "members in snake_case", lambda data: {"data": {_snake(k): v for k, v in data.items()}}),
    _shaped("data_capitals", "`DATA`", lambda data: {"DATA": data}),
    _shaped(
        "extra_fields", "fields nobody knows", lambda d: {"data": {**d, "extra": {"a": [1, None]}}, "meta": {"page": 1}}
    ),
    _shaped(
        "many_fields", "10,000 unknown fields", lambda d: {"data": {**d, **{f"field{n}": n for n in range(10_000)}}}
    ),
    _shaped("error_and_data", "an error beside good data", lambda data: {**_ERROR, "data": data}),
    _shaped("status_failed", "good data with status failed", lambda data: {"data": {**data, "status": "failed"}}),
    _shaped("quantity_zero", "good data with fulfilledQuantity 0", lambda d: {"data": {**d, "fulfilledQuantity": 0}}),
    *both("error_body", "200 with an error", sending(lambda _: frame(200, _ERROR)), Seen.ANSWER, 200),
    *both("success_false", "200, success: false", sending(lambda _: frame(200, {"success": False})), Seen.ANSWER, 200),
)

_UNUSABLE_CODES = tuple(
    _member(f"code_{name}", f"activationCode {says}", "activationCode", value)
    for name, says, value in (
        ("missing", "missing", MISSING),
        ("null", "null", None),
        ("number", "a number", 8901120200045678901),
        ("true", "true", True),
        ("list", "a list with the code", lambda code: [code]),
        ("object", "an object with the code", lambda code: {"value": code}),
        ("empty", "empty", ""),
        ("spaces", "three spaces", "   "),
        ("prefix_only", "LPA:1$ alone", "LPA:1$"),
        ("prefix_bare", "1$ alone", "1$"),
        ("version_2", "of format 2", lambda code: code.replace("LPA:1$", "LPA:2$")),
        ("matching_id_only", "the matching id alone", _matching_id),
        ("url", "a link to a picture", "https://cdn.stand-in.example/qr/1.png"),
        ("word", "PENDING", "PENDING"),
        ("fullwidth", "in full-width characters", lambda code: "".join(chr(ord(c) + 0xFEE0) for c in code)),
    )
)

_ODD_CODES = tuple(
    _odd_code(f"code_{name}", f"activationCode {says}", code_of)
    for name, says, code_of in (
        ("sample", "LPA:1$XYZ, the blueprint's sample", lambda _: "LPA:1$XYZ"),
        ("no_prefix", "without LPA:", lambda code: code.removeprefix("LPA:")),
        ("lower_prefix", "with lpa:", lambda code: "lpa:" + code.removeprefix("LPA:")),
        (
            "lower",
            "with a matching id in small letters",
            lambda code: code.replace(_matching_id(code), _matching_id(code).lower()),
        ),
        ("no_matching_id", "without a matching id", lambda code: f"LPA:1${_matching_id(code)}.{SMDP_ADDRESS}"),
        ("confirmation", "that asks for a confirmation code", lambda code: code + "$$1"),
        ("oid", "with an object identifier", lambda code: code + "$1.3.6.1.4.1.31746"),
        ("newline", "with a newline in it", lambda code: code[:-4] + "\n" + code[-4:]),
        ("newline_end", "with a newline behind it", lambda code: code + "\n"),
        ("space_around", "between spaces", lambda code: f"LPA:1$ {code.removeprefix('LPA:1$')} "),
        ("header_split", "with a CRLF and a header", lambda code: code + "\r\nX-Injected: 1"),
        ("html", "with HTML", lambda code: code + "<script>alert(1)</script>"),
        ("formula", "with a spreadsheet formula", lambda code: code + "=HYPERLINK(1)"),
        ("template", "with a template", lambda code: code + "{{7*7}}%s"),
        ("sql", "with SQL", lambda code: code + "'; DROP TABLE orders; --"),
        ("rtl", "with right-to-left override", lambda code: code + "\u202eEDOC"),
        ("zero_width", "with a zero-width space", lambda code: code[:-4] + "\u200b" + code[-4:]),
        ("nul", "with a NUL, which PostgreSQL refuses", lambda code: code + "\0"),
        ("surrogate", "with a lone surrogate", lambda code: code + "\ud800"),
        ("emoji", "with an emoji", lambda code: code + "\U0001f30d"),
        ("long", "of 300 characters", lambda code: code + "A" * (300 - len(code))),
        ("very_long", "of 100,000 characters", lambda code: code + "A" * (100_000 - len(code))),
    )
)

_ICCIDS = tuple(
    _member(f"iccid_{name}", f"iccid {says}", "iccid", value)
    for name, says, value in (
        ("missing", "missing", MISSING),
        ("null", "null", None),
        ("number", "a number", int),
        ("float", "a float, which loses digits", float),
        ("list", "a list", lambda iccid: [iccid]),
        ("empty", "empty", ""),
        ("wrong_luhn", "with a wrong check digit", lambda iccid: iccid[:-1] + str((int(iccid[-1]) + 1) % 10)),
        ("with_f", "padded with F", lambda iccid: iccid + "F"),
        ("20_digits", "of 20 digits", _twenty_digits),
        ("18_digits", "of 18 digits", lambda iccid: iccid[:-1]),
        ("short", "of 5 digits", "89101"),
        ("long", "of 1,000 digits", "8" * 1000),
        ("letters", "of letters", "not-an-iccid"),
        ("spaced", "in groups of four", lambda iccid: " ".join(iccid[at : at + 4] for at in range(0, 19, 4))),
        (
            "swapped",
            "with nibbles swapped",
            lambda iccid: "".join(b + a for a, b in zip(iccid[::2], iccid[1::2] + "F", strict=True)),
        ),
        ("non_ascii", "in Persian digits", lambda iccid: iccid.translate(_PERSIAN_DIGITS)),
        ("newline", "with a newline behind it", lambda iccid: iccid + "\n"),
        ("html", "as HTML", "<b>8910</b>"),
    )
)

_REFERENCES = tuple(
    _member(f"reference_{name}", f"orderReference {says}", "orderReference", value)
    for name, says, value in (
        ("other", "of an order nobody made", "order-999999999"),
        ("missing", "missing", MISSING),
        ("null", "null", None),
        ("number", "the number alone", lambda reference: int(reference.removeprefix("order-"))),
        ("capitals", "in capitals", str.upper),
        ("spaced", "with a space behind it", lambda reference: reference + " "),
        ("empty", "empty", ""),
        ("longer", "with a zero behind it", lambda reference: reference + "0"),
        ("theirs", "a number of their own", "CY-20260001"),
        ("list", "a list", lambda reference: [reference]),
    )
)

_OTHER_MEMBERS = (
    _member("qr_differs", "qrCode is another code", "qrCode", f"LPA:1${SMDP_ADDRESS}$ANOTHER-ONE"),
    _member("qr_missing", "no qrCode", "qrCode", MISSING),
    _member("qr_null", "qrCode is null", "qrCode", None),
    _member("qr_number", "qrCode is a number", "qrCode", 1),
    _member("qr_picture", "qrCode is a picture", "qrCode", "data:image/png;base64,iVBORw0KGgo="),
    _member("instructions_missing", "no instructions", "instructions", MISSING),
    _member("instructions_number", "instructions are a number", "instructions", 1),
    _member("instructions_html", "instructions with a script", "instructions", "<img src=x onerror=alert(1)>"),
    _member("instructions_long", "instructions of 500,000 characters", "instructions", "scan " * 100_000),
)

_MIXED_UP = (
    _of_earlier(
        "same_code", "the code of another order", lambda d, e: {"data": {**d, "activationCode": e.activation_code}}
    ),
    _of_earlier("same_iccid", "the ICCID of another order", lambda d, e: {"data": {**d, "iccid": e.iccid}}),
    _of_earlier(
        "same_both",
        "code and ICCID of another order",
        lambda d, e: {"data": {**e.answer()["data"], "orderReference": d["orderReference"]}},
    ),
    _of_earlier(
        "same_reference",
        "our code, another order's reference",
        lambda d, e: {"data": {**d, "orderReference": e.reference}},
    ),
    _of_earlier("same_all", "another order's whole answer", lambda _, e: e.answer()),
)


def _snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)


FAULTS = (*_DATA, *_UNUSABLE_CODES, *_ODD_CODES, *_ICCIDS, *_REFERENCES, *_OTHER_MEMBERS, *_MIXED_UP)
