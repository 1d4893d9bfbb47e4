"""The catalogue as a file states it and as it is stored, in one shape, so that the two can be compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PLAN_COLUMNS = ("sku", "name", "country_iso2", "data_mb", "validity_days", "price_minor", "currency")


@dataclass(frozen=True, slots=True)
class ProviderCode:
    """A provider's code for a plan. `cost_minor`: what it costs us there, minor units; None where nobody said."""

    external_id: str
    cost_minor: int | None = None


@dataclass(frozen=True, slots=True)
class CatalogueRow:
    """One plan. Every value is valid; units as in `app.models.catalogue.Plan`."""

    sku: str
    name: str
    countries: tuple[str, ...]
    """At least one: the primary one first, the others in the order of the alphabet."""
    data_mb: int
    validity_days: int
    price_minor: int
    currency: str
    codes: Mapping[str, ProviderCode] = field(default_factory=dict)
    """By provider ("CONNECTED_YOU"); a provider that isn't here does not sell the plan."""
    line: int = field(default=0, compare=False)
    """Where it stands in the file (1 is the header's line), 0 for a stored plan."""

    def cell(self, column: str) -> str | int:
        """What the file says in one of PLAN_COLUMNS: of several countries, `ES FR PT`."""
        value: str | int = " ".join(self.countries) if column == "country_iso2" else getattr(self, column)
        return value


@dataclass(frozen=True, slots=True)
class CatalogueFile:
    """
    A file in which every line is right.

    `providers`: those whose plan codes the file states; the codes of others are none of its business.
    `providers_with_cost`: those whose costs it states, too.
    """

    rows: tuple[CatalogueRow, ...]
    providers: tuple[str, ...]
    providers_with_cost: tuple[str, ...]


def code_column(provider: str) -> str:
    """The column of a provider's plan codes: `connected_you_plan_code`."""
    return f"{provider.lower()}_plan_code"


def cost_column(provider: str) -> str:
    """The column of what plans cost at a provider: `connected_you_cost_minor`."""
    return f"{provider.lower()}_cost_minor"
