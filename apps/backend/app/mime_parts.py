"""
The parts of a message (RFC 2045, 2046), written as they travel: seven bits, lines of at most 76 characters.

Python's email package would encode them as well, and reads each header that it is told to write, part by part, at each message:
half of what one costs (docs/decisions/0021). Here those that are always the same have been read once.
"""

from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Sequence
from dataclasses import dataclass
from email.headerregistry import BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import SMTP
from typing import Final


class _Headers(HeaderRegistry):
    """Python's own makes the class of a header anew for each one that is set."""

    def __init__(self) -> None:
        super().__init__()
        self._classes: dict[str, type[BaseHeader]] = {}

    def __getitem__(self, name: str) -> type[BaseHeader]:
        if name not in self._classes:
            self._classes[name] = super().__getitem__(name)
        return self._classes[name]


_headers = _Headers()

POLICY: Final = SMTP.clone(cte_type="7bit", header_factory=_headers)
"""Seven bits: then a message is the same for every server on its way."""


def _head(**values: str) -> tuple[tuple[str, BaseHeader], ...]:
    names = {name.replace("_", "-"): value for name, value in values.items()}
    return tuple((name, _headers(name, value)) for name, value in names.items())


# No text holds such a boundary: `=_` comes up neither in quoted-printable nor in base64 (RFC 2045 section 6.7).
_ALTERNATIVE: Final = _head(
    MIME_Version="1.0", Content_Type='multipart/alternative; boundary="=_two_that_say_the_same"'
)
_RELATED: Final = _head(Content_Type='multipart/related; type="text/html"; boundary="=_text_and_picture"')
_ENCODING: Final = "quoted-printable"
_PLAIN: Final = _head(Content_Type='text/plain; charset="utf-8"', Content_Transfer_Encoding=_ENCODING)
_HTML: Final = _head(Content_Type='text/html; charset="utf-8"', Content_Transfer_Encoding=_ENCODING)
_PNG: Final = _head(Content_Type="image/png", Content_Transfer_Encoding="base64")


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """
    A PNG within a text.

    Attributes:
        cid: what the text calls it (RFC 2392); ASCII letters, digits, `.`, `_`, `-` and `@`.
        name: of the file, should somebody keep it; ASCII as well.
        width: in CSS pixels, for the text that shows it.
    """

    png: bytes
    cid: str
    name: str
    width: int


def set_parts(message: EmailMessage, *, plain: str, html: str, picture: Picture | None) -> None:
    """
    Two parts that say the same, the better one last (RFC 2046 section 5.1.4); the picture belongs to that (RFC 2387).

    Args:
        message: of POLICY, a head without Content-Type and MIME-Version.
    """
    better = _text(_HTML, html)
    if picture is not None:
        better = _with(EmailMessage(POLICY), _RELATED, [better, _picture(picture)])
    _with(message, _ALTERNATIVE, [_text(_PLAIN, plain), better])


def _text(head: Sequence[tuple[str, BaseHeader]], text: str) -> EmailMessage:
    # Line by line: of a whole text it writes lines of 78, where one ends in a space.
    lines = b"\n".join(map(b2a_qp, text.encode().splitlines()))
    return _with(EmailMessage(POLICY), head, lines.decode("ascii"))


def _picture(picture: Picture) -> EmailMessage:
    part = _with(EmailMessage(POLICY), _PNG, encodebytes(picture.png).decode("ascii"))
    part["Content-Disposition"] = f'inline; filename="{picture.name}"'
    part["Content-ID"] = f"<{picture.cid}>"
    return part


def _with(
    part: EmailMessage, head: Sequence[tuple[str, BaseHeader]], payload: str | Sequence[EmailMessage]
) -> EmailMessage:
    for name, value in head:
        part[name] = value
    part.set_payload(payload if isinstance(payload, str) else [*payload])
    return part
