"""Whether a plan's name speaks of other countries than its own. English names only, and rather silent than wrong."""

import re
from collections.abc import Collection
from functools import cache
from typing import Final

# What pycountry's names leave out and people write; each is a whole word or words.
_ALSO_CALLED: Final = {
    "CI": ("Ivory Coast",),
    "CV": ("Cape Verde",),
    "CZ": ("Czech Republic",),
    "GB": ("UK", "Great Britain", "England", "Scotland", "Wales", "Northern Ireland"),
    "KR": ("Korea",),
    "MO": ("Macau",),
    "NL": ("Holland",),
    "RU": ("Russia",),
    "TR": ("Turkey",),
    "US": ("USA", "America", "Hawaii", "New Mexico", "New Jersey"),
    "AE": ("UAE", "Dubai", "Abu Dhabi", "Emirates"),
    "VA": ("Vatican",),
}
# Names that are at least as often something else: persons, states of the USA, parts of other names.
_AMBIGUOUS: Final = frozenset({"Chad", "Georgia", "Guinea", "Jersey", "Jordan", "Niger", "Dominica", "Mali", "Congo"})
_SEVERAL_COUNTRIES = (
    "Africa|Asia|Balkans?|Benelux|Caribbean|Europe|Global|Gulf|Latin|Nordics?|Oceania|Scandinavia|World|Worldwide"
)
_REGION = re.compile(rf"\b(?:{_SEVERAL_COUNTRIES})\b", re.IGNORECASE)
_PERHAPS_A_REGION = re.compile(
    rf"\b(?:{_SEVERAL_COUNTRIES}|Countries|EU|International|Regional|Roaming|Zone)\b", re.IGNORECASE
)


def other_country_in(name: str, countries: Collection[str]) -> str | None:
    """
    The one other country's English name that a plan's name holds, as it stands there.

    None where the name holds one of its own countries', none, more than one (a plan for a region), or a word for a region.
    """
    found = _countries_in(name)
    if len(found) != 1 or not found.keys().isdisjoint(countries) or _PERHAPS_A_REGION.search(name):
        return None
    return next(iter(found.values()))


def region_in(name: str) -> str | None:
    """The word for a region that a plan's name holds, as it stands there; None where it holds a country's name, too."""
    word = _REGION.search(name)
    return None if word is None or _countries_in(name) else word[0]


def _countries_in(name: str) -> dict[str, str]:
    """Code → as it stands there."""
    pattern, countries = _names()
    return {countries[match.casefold()]: match for match in pattern.findall(name)}


@cache
def _names() -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern for all names, the longest first so that "South Sudan" isn't "Sudan", and name → code."""
    import pycountry  # its tables take a while to load, and most commands need none

    countries: dict[str, str] = {}
    for country in pycountry.countries:
        names = {country.name, getattr(country, "common_name", country.name), *_ALSO_CALLED.get(country.alpha_2, ())}
        countries |= {name.casefold(): country.alpha_2 for name in names - _AMBIGUOUS}
    # "Isle of Man" and the like are whole names; what stands in brackets or behind a comma nobody writes.
    ordered = sorted(countries, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, ordered))})(?!\w)", re.IGNORECASE), countries
