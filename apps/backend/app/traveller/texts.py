"""
The texts that travellers read, by language and key, and numbers, dates and countries as that language writes them.

`texts/<language>.toml` has them: plain text without markup, `{name}` where something is filled in. A test holds that all languages
have the same keys and the same placeholders, and that none is without use.
"""

import tomllib
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from app.traveller.languages import Language

_LOCALES: Final = {"en": "en_GB"}  # day before month, as nearly everywhere that people travel to
_MB_A_GB: Final = 1024
_MB_A_ROUND_GB: Final = 1000


class Texts:
    """
    All texts of one language. Calling it gives one: `texts("mail.subject", plan="Spain 5 GB")`.

    Attributes:
        language: "en" and so on; right for HTML's `lang`, too.
    """

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self._locale = _LOCALES.get(language, language)
        source = files("app.traveller") / "texts" / f"{language}.toml"
        self._texts: dict[str, str | tuple[str, ...]] = dict(_flat(tomllib.loads(source.read_text(encoding="utf-8"))))

    def __call__(self, key: str, **values: object) -> str:
        """
        Raises:
            KeyError: there is no such text, or a value for one of its placeholders is missing.
        """
        text = self._texts[key]
        if not isinstance(text, str):
            raise KeyError(f"{key} has several texts")
        return text.format_map(values)

    def each(self, key: str) -> tuple[str, ...]:
        """The texts of a list, such as the steps of an installation. KeyError where there is none."""
        texts = self._texts[key]
        if isinstance(texts, str):
            raise KeyError(f"{key} is one text")
        return texts

    def counted(self, key: str, number: int, **values: object) -> str:
        """The text for so many of something; under the key stand the singular and the plural, both with `{number}`."""
        from babel import Locale

        one, other = self.each(key)
        is_one = Locale.parse(self._locale).plural_form(number) == "one"  # 0 is in French and in Portuguese
        return (one if is_one else other).format_map({"number": number, **values})

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._texts)

    def raw(self, key: str) -> tuple[str, ...]:
        """The text or texts under a key as the file has them, their placeholders not filled in."""
        text = self._texts[key]
        return (text,) if isinstance(text, str) else text

    def data(self, megabytes: float, *, of_mb: float | None = None) -> str:
        """
        An amount of data: "5 GB", in French "5 Go".

        Args:
            of_mb: the whole that it is a part of. One that is a round thousand (5000) has gigabytes of 1000, others (5120) of 1024:
                both are sold.
        """
        from babel.numbers import format_decimal

        whole = megabytes if of_mb is None else of_mb
        is_round = whole % _MB_A_ROUND_GB == 0 and whole % _MB_A_GB != 0
        base = _MB_A_ROUND_GB if is_round else _MB_A_GB
        byte = "o" if self.language == "fr" else "B"  # CLDR's; its other units are uneven: "0 MByte" in Portuguese
        if megabytes < base:
            return f"{format_decimal(megabytes, '#,##0', locale=self._locale)}\xa0M{byte}"
        return f"{format_decimal(megabytes / base, '#,##0.#', locale=self._locale)}\xa0G{byte}"

    def instant(self, instant: datetime) -> str:
        """Day and time in UTC, as nobody knows a traveller's time zone: "23 Nov 2026, 14:05 UTC"."""
        from babel.dates import format_date

        utc = instant.astimezone(UTC)
        return f"{format_date(utc, 'medium', locale=self._locale)}, {utc:%H:%M} UTC"

    def day(self, day: date) -> str:
        """A date: "23 November 2026"."""
        from babel.dates import format_date

        return format_date(day, "long", locale=self._locale)

    def country(self, iso2: str) -> str:
        """Its name; the code itself where it has none."""
        from babel import Locale

        return str(Locale.parse(self._locale).territories.get(iso2.upper(), iso2))


@cache
def texts_in(language: Language) -> Texts:
    return Texts(language)


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str | tuple[str, ...]]]:
    found: list[tuple[str, str | tuple[str, ...]]] = []
    for name, value in tree.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, tuple(value) if isinstance(value, list) else value))
    return found
