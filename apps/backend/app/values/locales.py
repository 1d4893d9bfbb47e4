"""Locales (BCP 47), and prices as people in them write prices. CLDR's data, by way of Babel."""

import copy
import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from app.values.money import currency_decimals

if TYPE_CHECKING:
    from babel import Locale
    from babel.numbers import NumberPattern

DEFAULT: Final = "en"
"""Where nobody says otherwise."""

_LONGEST_TAG: Final = 35
"""RFC 5646 section 4.4.1."""
_SUBTAGS_LOOKED_AT: Final = 4
"""Language, script, region, variant."""
_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*")
_LOADED_AT_ONCE: Final = 32
"""Locales; each takes 0.2 MB, there are a thousand, and anybody may ask for one after the other."""
_LANGUAGES_LOOKED_AT: Final = 10
"""Of an `Accept-Language`: browsers send less, and each one costs."""
_LETTER_BY_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
"""UTS 35, "currencySpacing": IQD 1.290, but $1.29. Babel leaves that out."""


class UnknownLocale(ValueError):
    """Nothing is known of the language."""


@lru_cache(maxsize=1024)
def read_locale(text: str) -> str:
    """
    The nearest locale that CLDR knows: `es-es` is "es-ES", `es-XX` is "es", `zh-TW` is "zh-Hant-TW" (RFC 4647 section 3.4).

    Raises:
        UnknownLocale: the language isn't known, or that is no language tag at all.
    """
    tag = text.strip()
    if len(tag) > _LONGEST_TAG or not _TAG.fullmatch(tag):
        raise UnknownLocale("a locale is written like es or es-ES")
    parts = re.split("[-_]", tag)[:_SUBTAGS_LOOKED_AT]
    while parts:
        if (found := _in_cldr("_".join(parts))) is not None:
            return found
        parts.pop()
    raise UnknownLocale(f"nothing is known of the language {tag[:3]!a}")


def preferred_locale(accept_language: str) -> str:
    """
    What an `Accept-Language` header (RFC 9110 section 12.5.4) likes best of what is known. DEFAULT where that is nothing: whoever
    sends it is a browser, and nobody typed it.
    """
    for tag in wishes_of(accept_language):
        try:
            return read_locale(tag)
        except UnknownLocale:
            continue
    return DEFAULT


def wishes_of(accept_language: str) -> list[str]:
    """The language tags of such a header, the most wanted first, as they are written; without those that aren't wanted at all."""
    wishes: list[tuple[float, str]] = []
    for wish in accept_language.split(",")[:_LANGUAGES_LOOKED_AT]:
        tag, _, parameters = wish.partition(";")
        wishes.append((_weight(parameters), tag.strip()))
    return [tag for weight, tag in sorted(wishes, key=lambda wish: -wish[0]) if weight > 0]


@lru_cache(maxsize=20_000)
def price_text(amount_minor: int, currency: str, locale: str) -> str:
    """
    The price as it is written there: "12,90 €" in es-ES, "€12.90" in en.

    Always to the last minor unit, in Western digits (Babel mixes up others); white space in it doesn't break.

    Args:
        locale: from `read_locale`.
    """
    decimals = currency_decimals(currency)
    known, pattern = _loaded(locale)
    exact = copy.copy(pattern)
    # ISO 4217's digits: CLDR rounds some currencies to what is in use there, and a price is exact.
    exact.frac_prec = (decimals, decimals)
    amount = Decimal(amount_minor).scaleb(-decimals)
    return _LETTER_BY_DIGIT.sub("\xa0", exact.apply(amount, known, currency=currency, currency_digits=False))


def _in_cldr(identifier: str) -> str | None:
    from babel import Locale, UnknownLocaleError  # wanted only where there are prices to write

    try:
        return str(Locale.parse(identifier)).replace("_", "-")
    except (UnknownLocaleError, ValueError):
        return None


@lru_cache(maxsize=_LOADED_AT_ONCE)
def _loaded(locale: str) -> "tuple[Locale, NumberPattern]":
    from babel import Locale, localedata

    known = Locale.parse(locale, sep="-")
    pattern = known.currency_formats["standard"]
    localedata._cache.clear()  # noqa: SLF001 - it keeps all that it ever loaded, and offers no other way to drop it
    return known, pattern


def _weight(parameters: str) -> float:
    """0 to 1; 0 also for what is no weight."""
    name, _, value = parameters.strip().partition("=")
    if not name:
        return 1.0
    is_number = re.fullmatch(r"(0(\.[0-9]{0,3})?|1(\.0{0,3})?)", value.strip()) is not None
    return float(value) if name.strip().lower() == "q" and is_number else 0.0
