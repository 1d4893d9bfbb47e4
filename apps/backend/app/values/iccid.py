"""ICCIDs: the number of an eSIM profile (ITU-T E.118). Providers' own samples break every rule, so none is refused."""

import re
from dataclasses import dataclass
from typing import Final

WRONG_LENGTH: Final = "iccid-wrong-length"
WRONG_PREFIX: Final = "iccid-wrong-prefix"
WRONG_CHECK_DIGIT: Final = "iccid-wrong-check-digit"
REFORMATTED: Final = "iccid-reformatted"
NOT_DIGITS: Final = "iccid-not-digits"

WARNINGS: Final[dict[str, str]] = {
    WRONG_LENGTH: "The ICCID hasn't 18 to 20 digits.",
    WRONG_PREFIX: "The ICCID doesn't begin with 89, the number of telecommunications (ITU-T E.118).",
    WRONG_CHECK_DIGIT: "The last digit of the ICCID isn't the Luhn check digit of the others.",
    REFORMATTED: "The ICCID came grouped, padded, with white space or as a number; it is kept as plain digits.",
    NOT_DIGITS: "What came as ICCID isn't a number of ASCII digits.",
}
"""Every warning code that `Iccid.read` gives, with its explanation for staff."""

_SEEN_LENGTHS = range(18, 23)
_MAX_UNREADABLE = 64  # characters kept of what is no number; the provider's whole answer is on file anyway
_DOUBLED = str.maketrans("0123456789", "0246813579")
"""Twice a digit, and of what has two digits then their sum."""

_GROUPED = re.compile(r"[0-9]+(?:[ -][0-9]+)*[Ff]?")


@dataclass(frozen=True, slots=True, repr=False)
class Iccid:
    """
    An ICCID as a provider sent it; personal data, so its repr is redacted.

    `text`: what to store: the digits where it has some, else what came (cut, and without what a database can't hold).
    `digits`: ASCII digits, or None where it is no number. `warnings`: keys of `WARNINGS`; none means valid.
    """

    text: str
    digits: str | None
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, value: object) -> "Iccid":
        """
        Read what a provider sent under "ICCID". Never raises; what is odd is kept and flagged.

        A number is taken too, as JSON keeps all digits of an integer; it is flagged. One pad digit F after 19 digits
        is how the SIM stores the number (SGP.22 section 5.3): removed, not flagged. A provider that leaves the ICCID
        out hasn't sent an odd one: don't call this with None.
        """
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or _GROUPED.fullmatch(text.strip()) is None:
            return cls(_storable(str(text)), None, (NOT_DIGITS,))
        digits = re.sub(r"[ -]", "", text.strip()).rstrip("Ff")
        is_padded = len(digits) == 19 and value in (f"{digits}F", f"{digits}f")
        warnings = [] if value == digits or is_padded else [REFORMATTED]
        if not 18 <= len(digits) <= 20:
            warnings.append(WRONG_LENGTH)
        if not digits.startswith("89"):
            warnings.append(WRONG_PREFIX)
        if luhn_digit(digits[:-1]) != digits[-1]:
            warnings.append(WRONG_CHECK_DIGIT)
        return cls(digits if len(digits) <= _MAX_UNREADABLE else _storable(digits), digits, tuple(warnings))

    @classmethod
    def make(cls, body: str) -> "Iccid":
        """
        Make a valid ICCID of 18 or 19 digits.

        Args:
            body: all but the check digit: 17 or 18 ASCII digits that begin with 89.

        Raises:
            ValueError: the body is anything else.
        """
        if re.fullmatch(r"89[0-9]{15,16}", body) is None:
            raise ValueError("The body of an ICCID is 89 and 15 or 16 more digits.")
        return cls.read(body + luhn_digit(body))

    @property
    def identity(self) -> str | None:
        """
        The digits, where they can name one profile; None for what isn't of a length seen in the wild (18 to 22 digits): "n/a", "0"
        or 10 to the 30th in place of an ICCID says nothing about whose it is.
        """
        return self.digits if self.digits and len(self.digits) in _SEEN_LENGTHS else None

    @property
    def is_valid(self) -> bool:
        """Of a right length (18 to 20 digits), prefix and check digit, and written plainly."""
        return not self.warnings

    @property
    def is_strict_e118(self) -> bool:
        """Valid by the letter of E.118, which knows at most 19 digits."""
        return self.is_valid and len(self.text) <= 19

    def __repr__(self) -> str:
        return "Iccid([iccid])"

    __str__ = __repr__


def luhn_digit(body: str) -> str:
    """The check digit ("0" to "9") for a body of ASCII digits (ISO/IEC 7812-1 annex B)."""
    every_other_doubled = body[::-2].translate(_DOUBLED) + body[-2::-2]
    return str(-sum(map(int, every_other_doubled)) % 10)


def _storable(text: str) -> str:
    """PostgreSQL's text holds neither U+0000 nor lone surrogates: those are written as escapes."""
    escaped = text[:_MAX_UNREADABLE].encode("utf-8", "backslashreplace").decode().replace("\0", r"\x00")
    return f"{escaped}…" if len(text) > _MAX_UNREADABLE else escaped
