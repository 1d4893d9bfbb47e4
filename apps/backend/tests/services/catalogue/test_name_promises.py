"""Numbers in a plan's name that are not the plan's."""

import pytest

from app.services.catalogue.name_promises import broken_promises
from app.services.catalogue.rows import CatalogueRow


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("Spain 5 GB", None),
        ("Spain 5.12 GB 30 days", None),
        ("Spain 5120MB, 30-day pass", None),
        ("Spain 1 GB/day", None),
        ("Spain 1 GB a day for 30 days", None),
        ("Spain 1 GB daily", None),
        ("Spain 3 GB + 2 GB", None),
        ("Spain 7 or 30 days", None),
        ("Spain and 1+ countries", None),
        ("Spain", None),
        ("Spain 3 GB", "data_mb is 5120"),
        ("Spain 0,5 GB", "data_mb is 5120"),
        ("Spain 500 MB", "data_mb is 5120"),
        ("Spain 7 days", "validity_days is 30"),
        ("Spain 5 GB 1 day", "validity_days is 30"),
        ("Spain and 2 countries", "country_iso2 names 1"),
        ("Spain and 2+ countries", "country_iso2 names 1"),
        ("Spain 3 GB 7 days", "data_mb is 5120, validity_days is 30"),
    ],
)
def test_a_name_promises_what_it_says_clearly(name: str, broken: str | None) -> None:
    plan = CatalogueRow("es-5gb", name, ("ES",), 5120, 30, 1290, "EUR")
    assert broken_promises(plan) == (broken.split(", ") if broken else [])


@pytest.mark.parametrize(("said", "is_kept"), [("1", False), ("2", True), ("3", False), ("1+", True), ("3+", False)])
def test_a_name_that_counts_countries_counts_those_of_the_plan(said: str, is_kept: bool) -> None:
    plan = CatalogueRow("x", f"Iberia, {said} countries", ("ES", "PT"), 5120, 30, 1290, "EUR")
    assert broken_promises(plan) == ([] if is_kept else ["country_iso2 names 2"])
