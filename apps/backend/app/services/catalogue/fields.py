"""The fields of a catalogue's line: what a person or a spreadsheet wrote → a value, or a sentence on what is wrong with it.

Every reader takes text without white space around it and raises ValueError, whose message follows the column's name:
"-5 must not be negative".
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final

from app.csv_table import shown
from app.values.country import Country
from app.values.money import currency_decimals

MAX_SKU_LENGTH: Final = 64
MAX_NAME_LENGTH: Final = 200
MAX_CODE_LENGTH: Final = 128
MAX_AMOUNT_MINOR: Final = 10**12
MAX_DATA_MB: Final = 10**9
MAX_VALIDITY_DAYS: Final = 3650

# RFC 3986 section 3.3, `pchar` without percent-encoding; not a dot-segment (section 5.2.4), which a client would resolve.
_SKU = re.compile(rf"(?!\.{{1,2}}\Z)[A-Za-z0-9._~!$&'()*+,;=:@-]{{1,{MAX_SKU_LENGTH}}}")
_NEGATIVE = re.compile(r"-[0-9][0-9.,]*")
_DECIMAL = re.compile(r"([0-9]+)[.,]([0-9]+)")
_BETWEEN_COUNTRIES = re.compile(r"[\s,;|/]+")
_LINE_BREAK = re.compile(r"\s*[\r\n]\s*")
# Control characters, lone surrogates (they have no bytes), Unicode's own line and paragraph separators.
_REFUSED_CATEGORIES: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))


def is_sku(text: str) -> bool:
    """1 to 64 ASCII characters that a URL's path takes as they are: no space, slash, `?`, `#`, `%`, quotes or brackets."""
    return _SKU.fullmatch(text) is not None


def read_sku(text: str) -> str:
    if is_sku(text):
        return text
    if not text:
        raise ValueError("is missing")
    if len(text) > MAX_SKU_LENGTH:
        raise ValueError(f"{shown(text)} is longer than {MAX_SKU_LENGTH} characters")
    raise ValueError(f"{shown(text)} cannot stand in a URL: take ASCII letters, digits, hyphens, dots and underscores")


def read_name(text: str) -> str:
    """A line break inside the name (a spreadsheet's Alt+Enter) becomes a space."""
    return _line_of_text(_LINE_BREAK.sub(" ", text), MAX_NAME_LENGTH)


def read_plan_code(text: str) -> str:
    return _line_of_text(text, MAX_CODE_LENGTH)


@lru_cache(maxsize=1024)
def read_countries(text: str) -> tuple[str, ...]:
    """
    One country, or several with white space, commas, semicolons, bars or slashes between them; ISO 3166-1 alpha-2, either case.

    Returns:
        The first as it stands there, it is the primary one; the others in the order of the alphabet.
    """
    written = [word for word in _BETWEEN_COUNTRIES.split(text) if word]
    if not written:
        raise ValueError("is missing")
    first, *others = [_read_country(word) for word in written]
    if twice := [country for country in dict.fromkeys(others) if country == first or others.count(country) > 1]:
        raise ValueError(f"{twice[0]} is there twice")
    return first, *sorted(others)


def _read_country(text: str) -> str:
    try:
        return Country.read(text).alpha_2
    except ValueError:
        raise ValueError(f"{shown(text)} is not a country code of ISO 3166-1 alpha-2, such as ES") from None


@lru_cache(maxsize=1024)
def read_currency(text: str) -> str:
    """ISO 4217, either case."""
    if not text:
        raise ValueError("is missing")
    try:
        currency_decimals(text.upper())
    except ValueError:
        raise ValueError(f"{shown(text)} is not a currency of ISO 4217 that prices are in, such as EUR") from None
    return text.upper()


def read_data_mb(text: str) -> int:
    return _whole(text, 1, MAX_DATA_MB, "whole number of megabytes")


def read_validity_days(text: str) -> int:
    return _whole(text, 1, MAX_VALIDITY_DAYS, "whole number of days")


def read_amount_minor(text: str, currency: str) -> int:
    """
    Args:
        currency: as it stands in the file; only for what the message suggests.
    """
    try:
        return _whole(text, 0, MAX_AMOUNT_MINOR, "whole number of minor units")
    except ValueError:
        if decimal := _DECIMAL.fullmatch(text):
            raise ValueError(
                f"{shown(text)} is not a whole number of minor units: {_advice(decimal, currency)}"
            ) from None
        raise


def _advice(decimal: re.Match[str], currency: str) -> str:
    try:
        decimals = currency_decimals(currency.upper())
    except ValueError:
        decimals = 2
    if len(decimal[2]) > decimals:
        return "write it without separators"
    return f"write {(decimal[1] + decimal[2].ljust(decimals, '0')).lstrip('0') or '0'}"


def _whole(text: str, lowest: int, highest: int, what: str) -> int:
    if not (text.isascii() and text.isdigit()):
        if not text:
            raise ValueError("is missing")
        if _NEGATIVE.fullmatch(text):
            raise ValueError(f"{shown(text)} must not be negative")
        raise ValueError(f"{shown(text)} is not a {what}: write digits only")
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(highest)) or (number := int(digits)) > highest:
        raise ValueError(f"{shown(text)} must be at most {highest}")
    if number < lowest:
        raise ValueError(f"{shown(text)} must be at least {lowest}")
    return number


def _line_of_text(text: str, longest: int) -> str:
    if not text:
        raise ValueError("is missing")
    if len(text) > longest:
        raise ValueError(f"is longer than {longest} characters")
    if not text.isprintable() and any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in text):
        raise ValueError(f"{shown(text)} holds a character that cannot be printed")
    return text
