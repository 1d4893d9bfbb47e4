"""Countries, by ISO 3166-1 alpha-2."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Country:
    """
    A country or territory that ISO 3166-1 lists. `alpha_2`: two upper-case ASCII letters, such as "ES".

    Raises:
        ValueError: not such a code. Codes that users made up (XK, EU) aren't in the standard.
    """

    alpha_2: str

    def __post_init__(self) -> None:
        country_name(self.alpha_2)

    @classmethod
    def read(cls, text: str) -> "Country":
        """Read what a person or program typed: either case, spaces around. Raises ValueError."""
        return cls(text.strip().upper())

    @property
    def name(self) -> str:
        return country_name(self.alpha_2)

    def __str__(self) -> str:
        return self.alpha_2


def country_name(alpha_2: str) -> str:
    """
    The English name that people use where the standard's is formal ("South Korea"), else the standard's.

    Raises:
        ValueError: `alpha_2` isn't an upper-case code of ISO 3166-1.
    """
    import pycountry  # its tables take a while to load, and most commands need none

    # pycountry itself takes any case and letters that only upper-case to ASCII ones.
    found = pycountry.countries.get(alpha_2=alpha_2) if re.fullmatch(r"[A-Z]{2}", alpha_2) else None
    if found is None:
        raise ValueError(f"{alpha_2[:20]!a} isn't a country code of ISO 3166-1 alpha-2, such as ES.")
    return str(getattr(found, "common_name", found.name))
