"""What `tribi catalogue check` finds, and what it is silent about."""

import pytest

from app.db import Database
from app.services.catalogue.checking import Finding, check_catalogue
from app.services.catalogue.country_names import other_country_in
from tests.services.catalogue.files import HEADER, a_file, a_line, importing


async def findings(
    db: Database, *lines: str, provider: str | None = "CONNECTED_YOU", header: str = HEADER
) -> list[Finding]:
    if lines:
        await importing(db, a_file(*lines, header=header))
    async with db.read() as connection:
        return await check_catalogue(connection, provider)


async def test_a_catalogue_in_order_has_no_findings(db: Database) -> None:
    assert await findings(db, a_line()) == []


async def test_an_empty_catalogue_is_an_error(db: Database) -> None:
    assert [(finding.code, finding.severity) for finding in await findings(db)] == [("no-plans", "error")]


async def test_plans_without_a_code_at_the_configured_provider_are_an_error(db: Database) -> None:
    lines = [a_line(sku=f"p-{n}", connected_you_plan_code="", connected_you_cost_minor="") for n in range(7)]
    (found,) = await findings(db, a_line(), *lines)
    assert (found.code, found.severity, len(found.skus)) == ("plan-not-mapped", "error", 7)
    assert found.sentence.startswith("p-0, p-1, p-2, p-3, p-4 and 2 more: no code at CONNECTED_YOU")


async def test_a_provider_that_needs_no_codes_misses_none(db: Database) -> None:
    assert await findings(db, a_line(connected_you_plan_code="", connected_you_cost_minor=""), provider=None) == []


@pytest.mark.parametrize(
    ("other", "severity"), [({}, "warning"), ({"data_mb": "10240"}, "error"), ({"country_iso2": "ES PT"}, "error")]
)
async def test_two_plans_with_one_code_are_an_error_where_they_promise_different_things(
    db: Database, other: dict[str, str], severity: str
) -> None:
    (found,) = await findings(db, a_line(sku="a"), a_line(**{"sku": "b", "name": "Spain"} | other))
    assert (found.code, found.severity, found.skus) == ("code-shared", severity, ("a", "b"))


async def test_a_price_below_cost_is_told_in_money(db: Database) -> None:
    (found,) = await findings(db, a_line(price_minor="639"))
    assert (found.code, found.severity) == ("price-below-cost", "warning")
    assert found.sentence.startswith("es-5gb: sold for 6.39 EUR but costs 6.40 EUR at CONNECTED_YOU (taking the cost")


async def test_a_name_of_another_country_is_a_warning(db: Database) -> None:
    (found,) = await findings(db, a_line(name="Portugal 5 GB"))
    assert (found.code, found.severity, found.skus) == ("country-and-name-differ", "warning", ("es-5gb",))


async def test_a_plan_sold_for_nothing_is_a_warning(db: Database) -> None:
    (found,) = await findings(db, a_line(price_minor="0", connected_you_cost_minor=""))
    assert (found.code, found.severity, found.skus) == ("price-zero", "warning", ("es-5gb",))


@pytest.mark.parametrize(
    ("name", "countries", "is_found"),
    [
        ("Portugal 5 GB", "ES FR", True),
        ("Portugal 5 GB", "ES PT", False),
        ("Spain 5 GB", "ES PT", False),
        ("Europe 5 GB", "ES", True),
        ("Europe 5 GB", "ES FR PT", False),
        ("Spain 5 GB (Europe)", "ES", False),
    ],
)
async def test_a_name_of_a_region_or_country_that_the_plan_is_not_for_is_a_warning(
    db: Database, name: str, countries: str, is_found: bool
) -> None:
    found = [finding.code for finding in await findings(db, a_line(name=name, country_iso2=countries))]
    assert found == ["country-and-name-differ"] * is_found


async def test_a_name_that_promises_other_numbers_is_a_warning(db: Database) -> None:
    (found,) = await findings(db, a_line(name="Spain 3 GB 7 days"))
    assert (found.code, found.severity) == ("numbers-and-name-differ", "warning")
    assert "'Spain 3 GB 7 days' but data_mb is 5120, validity_days is 30: " in found.sentence


async def test_codes_of_a_provider_that_there_is_not_are_noticed(db: Database) -> None:
    (found,) = await findings(db, a_line() + ",O-1", header=HEADER + ",other_plan_code")
    assert (found.code, found.severity, found.skus) == ("code-of-unknown-provider", "notice", ("es-5gb",))


async def test_codes_of_withdrawn_plans_are_only_noticed(db: Database) -> None:
    await importing(db, a_file(a_line(sku="old")))
    await importing(db, a_file(a_line(sku="new")), replacing=True)
    assert [(finding.code, finding.severity) for finding in await findings(db)] == [
        ("code-of-withdrawn-plan", "notice")
    ]


async def test_errors_stand_first(db: Database) -> None:
    found = await findings(
        db,
        a_line(sku="a", price_minor="1"),
        a_line(sku="b", connected_you_plan_code="", connected_you_cost_minor=""),
    )
    assert [finding.severity for finding in found] == ["error", "warning"]


@pytest.mark.parametrize(
    ("name", "country", "other"),
    [
        ("Portugal 5 GB", "ES", "Portugal"),
        ("eSIM japan", "FR", "japan"),
        ("South Korea 5 GB", "KP", "South Korea"),
        ("UK 5 GB", "FR", "UK"),
        ("Turkey 5 GB", "GR", "Turkey"),
        ("Sudan 1 GB", "SS", "Sudan"),
        ("Spain 5 GB", "ES", None),
        ("España 5 GB", "ES", None),
        ("Spain and Portugal", "ES", None),
        ("France, Italy, Germany", "ES", None),
        ("Europe with Switzerland", "DE", None),
        ("South Sudan 1 GB", "SS", None),
        ("New Mexico and Texas", "US", None),
        ("Atlanta, Georgia", "US", None),
        ("Nigeria 1 GB", "NG", None),
        ("Dominican Republic", "DO", None),
        ("Guinea-Bissau", "GW", None),
        ("Northern Ireland", "GB", None),
        ("Romania", "RO", None),
        ("Indiana", "US", None),
        ("", "ES", None),
    ],
)
def test_only_one_other_country_in_a_name_counts(name: str, country: str, other: str | None) -> None:
    assert other_country_in(name, {country}) == other
