"""Money: an amount in minor units with its currency (ISO 4217)."""

import re
from dataclasses import dataclass
from typing import Final

# ISO 4217 list one (maintenance agency: SIX), column "minor unit": all that isn't 2.
_DECIMALS: Final[dict[str, int]] = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF"), 0),
    **dict.fromkeys(("UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
# Metals, units of account between states, test and "no currency": no price is in these ("N.A." in that column).
_NOT_FOR_PRICES: Final = frozenset(
    ("XAD", "XAG", "XAU", "XBA", "XBB", "XBC", "XBD", "XDR", "XPD", "XPT", "XSU", "XTS", "XUA", "XXX")
)

MAX_MINOR: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact (RFC 8259 section 6)."""


@dataclass(frozen=True, slots=True)
class Money:
    """
    An amount of money.

    `amount_minor`: in minor units, 0 to 2**53 - 1: 1250 with "EUR" is 12.50 EUR, with "JPY" 1250 JPY.
    `currency`: three upper-case letters of ISO 4217.

    Raises:
        TypeError: the amount isn't an int, or is a bool.
        ValueError: it is out of range, or the currency isn't one that prices are in.
    """

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount_minor) is not int:
            raise TypeError("An amount of money is a whole number of minor units.")
        if not 0 <= self.amount_minor <= MAX_MINOR:
            raise ValueError("An amount of money is not negative and at most 2**53 - 1 minor units.")
        currency_decimals(self.currency)

    def __str__(self) -> str:
        """Such as "12.50 EUR", the same in every language."""
        decimals = currency_decimals(self.currency)
        digits = str(self.amount_minor).rjust(decimals + 1, "0")
        whole, fraction = digits[: len(digits) - decimals], digits[len(digits) - decimals :]
        return f"{whole}.{fraction} {self.currency}" if fraction else f"{whole} {self.currency}"


def currency_decimals(currency: str) -> int:
    """
    The number of digits behind the point: 0, 2, 3 or 4.

    Raises:
        ValueError: `currency` isn't an upper-case code of ISO 4217, or is one that no price is in, such as XAU.
    """
    import pycountry  # its tables take a while to load, and most commands need none

    known = re.fullmatch(r"[A-Z]{3}", currency) is not None and pycountry.currencies.get(alpha_3=currency) is not None
    if not known or currency in _NOT_FOR_PRICES:
        raise ValueError(f"{currency[:20]!a} isn't a currency of ISO 4217 that prices are in, such as EUR.")
    return _DECIMALS.get(currency, 2)
