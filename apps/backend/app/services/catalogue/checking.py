"""What is odd about the catalogue, before a customer finds it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncConnection

from app.services.catalogue.country_names import other_country_in, region_in
from app.services.catalogue.name_promises import broken_promises
from app.services.catalogue.rows import CatalogueRow, code_column
from app.services.catalogue.stored import stored_plans
from app.services.esim_providers import providers_with_plan_codes
from app.values.money import Money

_MAX_NAMED = 5


class Severity(StrEnum):
    ERROR = "error"
    """Customers are refused, or get something else than they paid for."""
    WARNING = "warning"
    """Probably a slip."""
    NOTICE = "notice"
    """Nothing needs to be done."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`skus`: all that it is about, none where it is about the whole. `sentence`: what is, and what to do."""

    code: str
    severity: Severity
    skus: tuple[str, ...]
    sentence: str


async def check_catalogue(connection: AsyncConnection, provider: str | None) -> list[Finding]:
    """
    Errors first.

    Args:
        provider: whose code a plan needs to be sold as configured, None where the provider needs none.
    """
    plans = (await stored_plans(connection)).values()
    on_sale = [plan.row for plan in plans if plan.is_on_sale]
    withdrawn = [plan.row for plan in plans if not plan.is_on_sale]
    findings = [
        *_nothing_on_sale(on_sale),
        *_without_code(on_sale, provider),
        *_sharing_a_code(on_sale),
        *_below_cost(on_sale),
        *_for_nothing(on_sale),
        *_another_country_in_name(on_sale),
        *_other_numbers_in_name(on_sale),
        *_codes_of_withdrawn(withdrawn),
        *_codes_of_unknown_providers([*on_sale, *withdrawn]),
    ]
    return sorted(findings, key=lambda finding: list(Severity).index(finding.severity))


def _nothing_on_sale(on_sale: Sequence[CatalogueRow]) -> Iterator[Finding]:
    if not on_sale:
        sentence = "No plan is on sale: import a catalogue with `tribi catalogue import FILE.csv`."
        yield Finding("no-plans", Severity.ERROR, (), sentence)


def _without_code(on_sale: Sequence[CatalogueRow], provider: str | None) -> Iterator[Finding]:
    if provider and (skus := [row.sku for row in on_sale if provider not in row.codes]):
        sentence = (
            f"{_named(skus)}: no code at {provider}, so orders are refused; fill {code_column(provider)} and import again, "
            "or leave the plan out and import with --replace."
        )
        yield Finding("plan-not-mapped", Severity.ERROR, tuple(skus), sentence)


def _sharing_a_code(on_sale: Sequence[CatalogueRow]) -> Iterator[Finding]:
    sharing: dict[tuple[str, str], list[CatalogueRow]] = defaultdict(list)
    for row in on_sale:
        for provider, code in row.codes.items():
            sharing[provider, code.external_id].append(row)
    for (provider, external_id), rows in sharing.items():
        if len(rows) < 2:
            continue
        skus = tuple(row.sku for row in rows)
        is_one_offer = len({(frozenset(row.countries), row.data_mb, row.validity_days) for row in rows}) == 1
        sentence = f"{_named(skus)}: the same code {external_id!r} at {provider}" + (
            "; correct it if that is not meant."
            if is_one_offer
            else ", although they promise different things: one of them delivers what it doesn't say; correct its code."
        )
        yield Finding("code-shared", Severity.WARNING if is_one_offer else Severity.ERROR, skus, sentence)


def _below_cost(on_sale: Sequence[CatalogueRow]) -> Iterator[Finding]:
    for row in on_sale:
        for provider, code in row.codes.items():
            if code.cost_minor is not None and row.price_minor < code.cost_minor:
                price, cost = Money(row.price_minor, row.currency), Money(code.cost_minor, row.currency)
                sentence = (
                    f"{row.sku}: sold for {price} but costs {cost} at {provider} (taking the cost to be in {row.currency}, "
                    "too): every order loses money; correct the price or the cost."
                )
                yield Finding("price-below-cost", Severity.WARNING, (row.sku,), sentence)


def _for_nothing(on_sale: Sequence[CatalogueRow]) -> Iterator[Finding]:
    if skus := [row.sku for row in on_sale if row.price_minor == 0]:
        sentence = f"{_named(skus)}: sold for nothing; correct the price if that is not meant."
        yield Finding("price-zero", Severity.WARNING, tuple(skus), sentence)


def _another_country_in_name(on_sale: Sequence[CatalogueRow]) -> Iterator[Finding]:
    for row in on_sale:
        first, *others = row.countries
        if other := other_country_in(row.name, row.countries):
            countries = f"countries are {' '.join(row.countries)}" if others else f"country is {first}"
            sentence = (
                f"{row.sku}: the {countries} but the name says {other} ({row.name!r}): correct whichever is wrong."
            )
        elif not others and (region := region_in(row.name)):
            sentence = (
                f"{row.sku}: the country is {first} alone but the name says {region} ({row.name!r}): who looks for another "
                "country doesn't find it; name all of them in country_iso2."
            )
        else:
            continue
        yield Finding("country-and-name-differ", Severity.WARNING, (row.sku,), sentence)


def _other_numbers_in_name(on_sale: Sequence[CatalogueRow]) -> Iterator[Finding]:
    for row in on_sale:
        if broken := broken_promises(row):
            sentence = f"{row.sku}: the name is {row.name!r} but {', '.join(broken)}: correct whichever is wrong."
            yield Finding("numbers-and-name-differ", Severity.WARNING, (row.sku,), sentence)


def _codes_of_withdrawn(withdrawn: Sequence[CatalogueRow]) -> Iterator[Finding]:
    if skus := [row.sku for row in withdrawn if row.codes]:
        sentence = (
            f"{_named(skus)}: no longer on sale, but the provider's code is kept for orders placed before; "
            "nothing to do (import the plan again to sell it again)."
        )
        yield Finding("code-of-withdrawn-plan", Severity.NOTICE, tuple(skus), sentence)


def _codes_of_unknown_providers(rows: Sequence[CatalogueRow]) -> Iterator[Finding]:
    known = providers_with_plan_codes()
    skus_of: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for provider in row.codes.keys() - set(known):
            skus_of[provider].append(row.sku)
    for provider, skus in sorted(skus_of.items()):
        sentence = (
            f"{_named(skus)}: codes of {provider}, a provider that this release doesn't have; "
            "nothing reads them, and no export states them."
        )
        yield Finding("code-of-unknown-provider", Severity.NOTICE, tuple(skus), sentence)


def _named(skus: Sequence[str]) -> str:
    more = len(skus) - _MAX_NAMED
    return ", ".join(skus[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
