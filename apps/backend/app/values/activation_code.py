"""Activation codes: what a traveller's handset needs to fetch the eSIM (GSMA SGP.22 section 4.1)."""

import re
from dataclasses import dataclass
from typing import Final

MAX_LENGTH: Final = 255
"""Characters of an activation code, the prefix `LPA:` not counted (SGP.22 section 4.1)."""

NOT_SGP22: Final = "activation-code-not-sgp22"
WHITE_SPACE: Final = "activation-code-white-space"
CONFIRMATION_UNCLEAR: Final = "activation-code-confirmation-unclear"

WARNINGS: Final[dict[str, str]] = {
    NOT_SGP22: "The activation code isn't written as SGP.22 section 4.1 asks; some handsets may refuse it.",
    WHITE_SPACE: "The activation code came with white space around it; it is shown without.",
    CONFIRMATION_UNCLEAR: "The field that says whether a confirmation code is needed holds neither nothing nor 1; "
    "ask the provider whether the traveller needs one.",
}
"""Every warning code that `ActivationCode.read` gives, with its explanation for staff."""

_USABLE = re.compile(r"(?:LPA:)?(1\$.*[^$\s].*)", re.IGNORECASE | re.DOTALL)
_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
# The last label holds a letter, so that an IPv4 address is no host name (RFC 1123 section 2.1).
_HOST_NAME = re.compile(rf"(?:{_LABEL}\.)+(?=[0-9-]*[A-Za-z]){_LABEL}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MATCHING_ID = re.compile(r"[0-9A-Za-z-]*")
_ARC = r"(?:0|[1-9][0-9]*)"
_OID = re.compile(rf"(?:[01]\.(?:[0-9]|[1-3][0-9])|2\.{_ARC})(?:\.{_ARC})*")  # X.660: under 0 and 1 at most 39
_QR_ALPHANUMERIC = re.compile(r"[0-9A-Z$%*+./:-]*")  # ISO/IEC 18004 table 5, without its space


class UnusableActivationCode(ValueError):
    """What the provider sent can't be an activation code. The message doesn't repeat it: it may hold a secret."""


@dataclass(frozen=True, slots=True, repr=False)
class ActivationCode:
    """
    An activation code as a provider sent it, or as Tribi made it. A secret: whoever holds it can take the eSIM.

    The three fields, and the flag, are read only where the whole code is valid: half a guess isn't shown as a fact.

    `text`: as received. `smdp_address`: host name, compare without regard to case. `matching_id`: may be empty, its
    case is never changed. `oid`: of the SM-DP+, usually None. `warnings`: keys of `WARNINGS`; none means valid.
    """

    text: str
    smdp_address: str | None = None
    matching_id: str | None = None
    oid: str | None = None
    confirmation_code_required: bool = False
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, value: object) -> "ActivationCode":
        """
        Read what a provider sent. Odd but usable codes are kept and flagged: money was spent on them.

        Usable is what begins with `LPA:1$` (the prefix in any case) or `1$` and has something other than `$` after it.

        Raises:
            UnusableActivationCode: anything else, and text with a lone surrogate (it has no bytes, so no QR either).
        """
        if not isinstance(value, str) or _has_surrogate(value):
            raise UnusableActivationCode("The activation code isn't text.")
        stripped = value.strip()
        usable = _USABLE.fullmatch(stripped)
        if usable is None:
            raise UnusableActivationCode("The activation code doesn't begin with LPA:1$ or 1$, or nothing comes after.")
        around = (WHITE_SPACE,) if stripped != value else ()
        fields: list[str] = usable[1].split("$")
        _, address, matching_id, oid, flag = (*fields, "", "", "")[:5]  # fields after the flag are ignored
        valid = (
            len(fields) >= 3  # the second $ is mandatory, even before an empty matching ID
            and len(usable[1]) <= MAX_LENGTH
            and is_host_name(address)
            and _MATCHING_ID.fullmatch(matching_id) is not None
            and (oid == "" or _OID.fullmatch(oid) is not None)
            and flag in ("", "1")
        )
        if valid:
            return cls(value, address, matching_id, oid or None, flag == "1", around)
        # A lone 1 as fourth field stands where the OID belongs: a common mistake for the flag, which is the fifth.
        unclear = (CONFIRMATION_UNCLEAR,) if flag not in ("", "1") or oid == "1" else ()
        return cls(value, warnings=(NOT_SGP22, *unclear, *around))

    @classmethod
    def make(cls, smdp_address: str, matching_id: str) -> "ActivationCode":
        """
        Make a code that is valid by the letter and fits a QR in alphanumeric mode.

        The address is turned to upper case, the matching ID isn't (another case would be another profile).

        Raises:
            ValueError: no host name of two labels or more, a matching ID beyond `[0-9A-Z-]*`, or more than 255
                characters together.
        """
        text = f"LPA:1${smdp_address.upper()}${matching_id}"
        # Both are looked at before they are put together: upper() turns some other letters into ASCII ones.
        if not is_host_name(smdp_address) or not cls.read(text).is_strict_sgp22 or "$" in matching_id:
            raise ValueError("No activation code of SGP.22 section 4.1 can be made of this address and matching ID.")
        return cls.read(text)

    @property
    def is_valid(self) -> bool:
        """Valid in practice: lower case in address and matching ID, and a blank last field, are common."""
        return not self.warnings

    @property
    def is_strict_sgp22(self) -> bool:
        """Valid by the letter: upper case only, no delimiter without a field behind it but the mandatory second."""
        if not self.is_valid or not self.text.startswith(("LPA:", "1$")):
            return False
        fields = self.manual.split("$")
        return _QR_ALPHANUMERIC.fullmatch(self.manual) is not None and (len(fields) == 3 or fields[-1] != "")

    @property
    def manual(self) -> str:
        """For entering by hand: without prefix and surrounding white space, otherwise as received."""
        text = self.text.strip()
        return text[4:] if text[:4].upper() == "LPA:" else text

    @property
    def lpa(self) -> str:
        """For the QR: `LPA:` and `manual`."""
        return f"LPA:{self.manual}"

    @property
    def identity(self) -> str | None:
        """
        What two spellings of one code share, to see that two profiles hold the same; as secret as the code.

        None where the matching ID is empty: such a code names a server, not a profile.
        """
        if self.smdp_address is None or self.matching_id is None:
            return self.manual
        return f"1${self.smdp_address.upper()}${self.matching_id}" if self.matching_id else None

    def __repr__(self) -> str:
        return "ActivationCode([code])"

    __str__ = __repr__


def is_host_name(text: str) -> bool:
    """A fully qualified host name of ASCII letters, digits and hyphens: two labels or more, no root dot."""
    return len(text) <= 253 and _HOST_NAME.fullmatch(text) is not None


def _has_surrogate(text: str) -> bool:
    return _SURROGATE.search(text) is not None
