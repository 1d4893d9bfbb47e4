"""Webhooks that aren't the provider's: scripted ones, and the right one with a bit of its header turned over."""

import hashlib
import random
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

Header = tuple[bytes, bytes]

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Forgery:
    """`query`: behind the address. `body`: in front of the event's."""

    name: str
    headers: Sequence[Header] = ()
    query: bytes = b""
    body: bytes = field(default=b"")

    @property
    def is_http(self) -> bool:
        """What isn't, is turned away before anybody looks for a secret (RFC 9110 section 5)."""
        return all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in self.headers)


def scripted(header: str, secret: str, others: dict[str, str]) -> list[Forgery]:
    """
    Args:
        others: secrets of something else, by what they are.
    """
    name, right = header.encode(), secret.encode()
    values: dict[str, bytes | str] = {
        "empty": "",
        "one space": " ",
        "cut by one at the end": secret[:-1],
        "cut by one at the beginning": secret[1:],
        "its first half": secret[: len(secret) // 2],
        "its first letter": secret[0],
        "one letter longer": secret + "x",
        "one letter longer, in front": "x" + secret,
        "twice as long": secret * 2,
        "a thousand letters longer": secret + "x" * 1000,
        "capitals": secret.upper(),
        "small letters": secret.lower(),
        "the other case": secret.swapcase(),
        "backwards": secret[::-1],
        "another last letter": secret[:-1] + chr(ord(secret[-1]) ^ 1),
        "another first letter": chr(ord(secret[0]) ^ 1) + secret[1:],
        "as many letters": "a" * len(secret),
        "in quotes": f'"{secret}"',
        "in single quotes": f"'{secret}'",
        "in brackets": f"[{secret}]",
        "in braces": f"{{{secret}}}",
        "in angle brackets": f"<{secret}>",
        "Bearer": f"Bearer {secret}",
        "Token": f"Token {secret}",
        "Basic, in clear": f"Basic {secret}",
        "Basic": f"Basic {b64encode(b':' + right).decode()}",
        "v1, alone": "v1,",
        "v1,": f"v1,{secret}",
        "v1=": f"v1={secret}",
        "sha256=": f"sha256={secret}",
        "a list of itself": f"{secret},{secret}",
        "a list of itself, spaced": f"{secret}, {secret}",
        "a list that begins with it": f"{secret}, wrong",
        "a list that ends with it": f"wrong, {secret}",
        "a list without end": f"{secret},",
        "a list without beginning": f",{secret}",
        "with a parameter": f"{secret}; q=1",
        "two words": f"{secret} {secret}",
        "a space within": f"{secret[:4]} {secret[4:]}",
        "a tab within": f"{secret[:4]}\t{secret[4:]}",
        "percent-encoded": "".join(f"%{byte:02X}" for byte in right),
        "its first letter percent-encoded": f"%{right[0]:02x}{secret[1:]}",
        "percent-encoded NUL behind it": f"{secret}%00",
        "base64": b64encode(right),
        "base64 for URLs": urlsafe_b64encode(right),
        "hex": right.hex(),
        "its SHA-256": hashlib.sha256(right).hexdigest(),
        "RFC 2047": f"=?utf-8?b?{b64encode(right).decode()}?=",
        "RFC 8187": f"UTF-8''{quote(secret)}",
        "full width": "".join(chr(ord(letter) + 0xFEE0) for letter in secret).encode(),
        "UTF-16": secret.encode("utf-16"),
        "a byte-order mark in front": b"\xef\xbb\xbf" + right,
        "a zero-width space within": f"{secret[:4]}\u200b{secret[4:]}".encode(),
        "a no-break space in front": b"\xa0" + right,
        "a no-break space behind": right + b"\xa0",
        "a next line (U+0085) behind": right + b"\x85",
        "an accent behind": right + "é".encode(),
        "the eighth bit of all": bytes(byte | 0x80 for byte in right),
        "no UTF-8": right + b"\xff\xfe",
        "half a character": right + b"\xed\xa0\x80",
        "NUL behind": right + b"\0",
        "NUL in front": b"\0" + right,
        "NUL within": right[:4] + b"\0" + right[4:],
        "DEL behind": right + b"\x7f",
        "CR behind": right + b"\r",
        "LF within": right[:4] + b"\n" + right[4:],
        "a form feed behind": right + b"\f",
        "null": "null",
        "undefined": "undefined",
        "true": "true",
        "an asterisk": "*",
        "the setting's name": "CONNECTED_YOU_WEBHOOK_SECRET",
        "a placeholder": "${CONNECTED_YOU_WEBHOOK_SECRET}",
        "SQL": "' OR ''='",
        "the header's name": header,
        **others,
    }
    forgeries = [
        Forgery(what, [(name, value.encode() if isinstance(value, str) else value)]) for what, value in values.items()
    ]
    names = {
        "a letter more": name + b"s",
        "a letter less": name[:-1],
        "underscores": name.replace(b"-", b"_"),
        "without x-": name.removeprefix(b"x-"),
        "twice x-": b"x-" + name,
        "a space before the colon": name + b" ",
        "NUL in the name": name + b"\0",
        "an accent in the name": name.replace(b"e", "é".encode(), 1),
        "x-api-key": b"x-api-key",
        "x-webhook-signature": b"x-webhook-signature",
        "x-forwarded-secret": b"x-forwarded-secret",
        "authorization": b"authorization",
    }
    forgeries += [Forgery(f"under another name: {what}", [(other, right)]) for what, other in names.items()]
    twice = {
        "twice the right one": (right, right),
        "a wrong one first": (b"wrong", right),
        "a wrong one behind": (right, b"wrong"),
        "an empty one first": (b"", right),
        "an empty one behind": (right, b""),
    }
    forgeries += [Forgery(what, [(name, one), (name, two)]) for what, (one, two) in twice.items()]
    return [
        *forgeries,
        Forgery("twice, once in capitals", [(name, right), (name.upper(), right)]),
        Forgery("no header"),
        Forgery("a cookie", [(b"cookie", name + b"=" + right)]),
        Forgery("in the address", query=b"?" + name + b"=" + right),
        Forgery("in the body", body=name + b": " + right + b"\r\n\r\n"),
    ]


def turned_over(draw: random.Random, header: str, secret: str) -> Forgery:
    """One bit of the header's name or value; not that which is only another case of a name, as names have none."""
    name, value = header.encode(), secret.encode()
    while True:
        bit = draw.randrange(8 * len(name + value))
        line = bytearray(name + value)
        line[bit // 8] ^= 1 << bit % 8
        turned = bytes(line[: len(name)]), bytes(line[len(name) :])
        if turned[0].lower() != name or turned[1] != value:
            return Forgery(f"bit {bit % 8} of byte {bit // 8}", [turned])
