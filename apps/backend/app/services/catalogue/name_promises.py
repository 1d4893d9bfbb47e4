"""What a plan's name promises in numbers: "Europe 30 countries, 5 GB, 30 days". English, and rather silent than wrong. Pure."""

import re
from decimal import Decimal

from app.services.catalogue.rows import CatalogueRow

_DATA = re.compile(r"(?<![\d.,])([0-9]{1,5}(?:[.,][0-9]{1,2})?)\s?(GB|MB)\b", re.IGNORECASE)
_DAYS = re.compile(r"(?<![\d.,-])([0-9]{1,4})[ -]?days?\b", re.IGNORECASE)
_COUNTRIES = re.compile(r"(?<![\d.,])([0-9]{1,3})(\+?) ?(?:countries|destinations)\b", re.IGNORECASE)
_EACH_DAY = re.compile(r"(?:/|\b(?:a|per|each|every)\b) ?day\b|\bdaily\b", re.IGNORECASE)


def broken_promises(row: CatalogueRow) -> list[str]:
    """What the plan has where its name says otherwise: "data_mb is 1024". Numbers of which a name holds two are passed over."""
    broken = []
    if (amounts := _data_mb_in(row.name)) and row.data_mb not in amounts:
        broken.append(f"data_mb is {row.data_mb}")
    days = _DAYS.findall(row.name)
    if len(days) == 1 and int(days[0]) != row.validity_days:
        broken.append(f"validity_days is {row.validity_days}")
    counted = _COUNTRIES.findall(row.name)
    if len(counted) == 1:
        number, or_more = counted[0]
        if len(row.countries) < int(number) or (len(row.countries) > int(number) and not or_more):
            broken.append(f"country_iso2 names {len(row.countries)}")
    return broken


def _data_mb_in(name: str) -> set[int]:
    """All that it may mean: a GB is 1,000 MB to some sellers and 1,024 to others. Empty for so much a day."""
    found = _DATA.findall(name)
    if len(found) != 1 or _EACH_DAY.search(name):
        return set()
    number, unit = found[0]
    amount = Decimal(number.replace(",", "."))
    return {int(amount * size) for size in ((1000, 1024) if unit.upper() == "GB" else (1,))}
