"""Locales, and prices as people in them write prices."""

import re

import pytest
from babel import localedata

from app.values.locales import UnknownLocale, preferred_locale, price_text, read_locale


@pytest.mark.parametrize(
    ("text", "locale"),
    [
        ("es", "es"),
        ("es-ES", "es-ES"),
        (" ES_es ", "es-ES"),
        ("es-XX", "es"),
        ("de-CH-1996", "de-CH"),
        ("zh-TW", "zh-Hant-TW"),
        ("en-US-u-nu-latn", "en-US"),
        ("en-GB-oxendict", "en-GB"),
    ],
)
def test_a_locale_is_the_nearest_that_is_known(text: str, locale: str) -> None:
    assert read_locale(text) == locale


@pytest.mark.parametrize(
    "text", ["", "e", "xx", "tlh", "english", "es--ES", "es ES", "es;q=1", "*", "es-" + "a" * 33, "ñü"]
)
def test_what_names_no_known_language_is_no_locale(text: str) -> None:
    with pytest.raises(UnknownLocale):
        read_locale(text)


@pytest.mark.parametrize(
    ("header", "locale"),
    [
        ("", "en"),
        ("es", "es"),
        ("es-ES,es;q=0.9,en;q=0.8", "es-ES"),
        ("fr;q=0.5, de;q=0.7", "de"),
        ("fr;q=0.7, de;q=0.7", "fr"),
        ("fr; Q=0.1 , de ; q=0.2", "de"),
        ("de;q=0, fr;q=0.001", "fr"),
        ("tlh, fr;q=0.1", "fr"),
        ("de;q=2, de;q=-1, de;q=x, de;x=1, fr;q=0.1", "fr"),
        ("*", "en"),
        (",,;,=,;q=1", "en"),
        ("xx," * 10 + "fr", "en"),
        ("x" * 8000, "en"),
        ("\xff", "en"),
    ],
)
def test_a_browsers_wishes_are_met_where_they_can_be(header: str, locale: str) -> None:
    assert preferred_locale(header) == locale


@pytest.mark.parametrize(
    ("amount_minor", "currency", "locale", "text"),
    [
        (1290, "EUR", "en", "€12.90"),
        (1290, "EUR", "es-ES", "12,90\xa0€"),
        (1290, "IQD", "es", "1,290\xa0IQD"),
        (123456789, "EUR", "de-CH", "EUR\xa01\u2019234\u2019567.89"),
        (1290, "USD", "es", "12,90\xa0US$"),
        (1290, "JPY", "en", "¥1,290"),
        (1290, "KWD", "en", "KWD\xa01.290"),
        (0, "EUR", "en", "€0.00"),
        (5, "EUR", "en", "€0.05"),
        (10**12, "EUR", "hi", "€10,00,00,00,000.00"),
        (12345, "IQD", "en", "IQD\xa012.345"),  # CLDR: no decimals in use
        (12345, "CLF", "en", "CLF\xa01.2345"),
        (2**53 - 1, "EUR", "en", "€90,071,992,547,409.91"),
    ],
)
def test_a_price_is_exact_and_in_the_locales_own_way(amount_minor: int, currency: str, locale: str, text: str) -> None:
    assert price_text(amount_minor, currency, locale) == text


def test_any_locale_can_write_a_price_and_few_stay_in_memory() -> None:
    for identifier in sorted(localedata.locale_identifiers())[::9]:
        locale = read_locale(identifier)
        assert re.sub("[^0-9]", "", price_text(1290, "KWD", locale)) == "1290"
    assert localedata._cache == {}  # noqa: SLF001 - that Babel's own cache can be emptied is what is tested
