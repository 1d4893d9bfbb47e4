"""The catalogue as a file: exported and imported again it is the same."""

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from app.db import Database
from app.services.catalogue.csv_file import read_catalogue, write_catalogue
from app.services.catalogue.diff import StoredPlan, compare
from app.services.catalogue.fields import is_sku
from app.services.catalogue.rows import CatalogueFile, CatalogueRow, ProviderCode
from app.services.catalogue.stored import export_catalogue
from tests.services.catalogue.files import PROVIDERS, a_file, a_line, importing, reading

_text = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).filter(lambda t: t == t.strip())
_amounts = st.integers(0, 10**12)
_rows = st.builds(
    CatalogueRow,
    sku=st.from_regex(r"[!-~]{1,64}", fullmatch=True).filter(is_sku),
    name=_text.filter(lambda text: len(text) <= 200),
    countries=st.lists(st.sampled_from(["ES", "FR", "JP", "NA", "PT"]), min_size=1, unique=True).map(
        lambda countries: (countries[0], *sorted(countries[1:]))
    ),
    data_mb=st.integers(1, 10**9),
    validity_days=st.integers(1, 3650),
    price_minor=_amounts,
    currency=st.sampled_from(["EUR", "JPY", "KWD"]),
    codes=st.dictionaries(
        st.sampled_from(PROVIDERS),
        st.builds(ProviderCode, _text.filter(lambda text: len(text) <= 128), st.none() | _amounts),
    ),
)
_catalogues = st.lists(_rows, min_size=1, max_size=5, unique_by=lambda row: row.sku)


@given(rows=_catalogues)
def test_any_catalogue_is_read_as_it_was_written(rows: list[CatalogueRow]) -> None:
    file = read_catalogue(write_catalogue(rows, PROVIDERS).encode(), PROVIDERS)
    assert file.rows == tuple(rows)
    assert compare(file, {row.sku: StoredPlan(row, True) for row in rows}, replacing=True).is_empty


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_catalogues)
async def test_an_export_imported_again_changes_nothing(db: Database, rows: list[CatalogueRow]) -> None:
    await importing(db, write_catalogue(rows, PROVIDERS).encode(), replacing=True)
    async with db.read() as connection:
        exported = await export_catalogue(connection, PROVIDERS)
    assert sorted(row.sku for row in reading(exported.encode()).rows) == sorted(row.sku for row in rows)
    assert (await importing(db, exported.encode(), replacing=True)).is_empty


async def test_withdrawn_plans_are_not_exported(db: Database) -> None:
    await importing(db, a_file(a_line(sku="old")))
    await importing(db, a_file(a_line(sku="new")), replacing=True)
    async with db.read() as connection:
        exported = await export_catalogue(connection, ["CONNECTED_YOU"])
    assert exported.encode() == a_file(a_line(sku="new"))


def test_a_file_states_only_its_own_providers() -> None:
    row = CatalogueRow("a", "A", ("ES",), 1, 1, 1, "EUR", {"OTHER": ProviderCode("O")})
    file = CatalogueFile((CatalogueRow("a", "A", ("ES",), 1, 1, 1, "EUR"),), ("CONNECTED_YOU",), ())
    assert compare(file, {"a": StoredPlan(row, True)}, replacing=False).is_empty
