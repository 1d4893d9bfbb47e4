"""The catalogue's CSV file: bytes ↔ rows. Pure.

Header: `sku,name,country_iso2,data_mb,validity_days,price_minor,currency`, and for a provider `<provider>_plan_code`
and `<provider>_cost_minor`, lower case, in any order. An empty plan code: not sold at that provider. `country_iso2` of a plan
for several countries: `ES FR PT`, the primary one first.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from app.csv_table import CsvRefused, Line, Table, read_table
from app.services.catalogue import fields
from app.services.catalogue.rows import (
    PLAN_COLUMNS,
    CatalogueFile,
    CatalogueRow,
    ProviderCode,
    code_column,
    cost_column,
)

MAX_PLANS: Final = 200_000


@dataclass(frozen=True, slots=True)
class _Providers:
    """Whose columns the file has."""

    with_code: tuple[str, ...]
    with_cost: tuple[str, ...]


def read_catalogue(data: bytes, providers: Sequence[str]) -> CatalogueFile:
    """
    Args:
        data: as `read_table` takes it.
        providers: those that need plan codes, by their names in settings ("CONNECTED_YOU").

    Raises:
        CsvRefused: at least one line is wrong.
    """
    table = read_table(data)
    layout = _read_header(table, providers)

    rows: list[CatalogueRow] = []
    mistakes: list[str] = []
    lines_of_skus: dict[str, int] = {}
    for count, line in enumerate(table.lines(), 1):
        if count > MAX_PLANS:
            mistakes.append(f"the file has more than {MAX_PLANS} plans: import it in parts, without --replace")
            break
        found = line if isinstance(line, str) else _read_row(line, layout, lines_of_skus)
        if isinstance(found, str):
            mistakes.append(found)
        else:
            rows.append(found)
    if mistakes:
        raise CsvRefused(mistakes)
    if not rows:
        raise CsvRefused(["the file holds a header but no plan: there is nothing to import"])
    return CatalogueFile(tuple(rows), layout.with_code, layout.with_cost)


def write_catalogue(rows: Sequence[CatalogueRow], providers: Sequence[str]) -> str:
    """The file that `read_catalogue` reads these rows from; LF, commas. `providers`: whose codes and costs to state."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*PLAN_COLUMNS, *(column(p) for p in providers for column in (code_column, cost_column))])
    for row in rows:
        codes = [row.codes.get(provider) for provider in providers]
        of_providers = [cell for code in codes for cell in ((code.external_id, code.cost_minor) if code else ("", ""))]
        writer.writerow([*(row.cell(column) for column in PLAN_COLUMNS), *of_providers])
    return file.getvalue()


def _read_header(table: Table, providers: Sequence[str]) -> _Providers:
    without_code = [
        f"the column {cost_column(p)} needs {code_column(p)}"
        for p in providers
        if cost_column(p) in table.at and code_column(p) not in table.at
    ]
    known = [*PLAN_COLUMNS, *(column(p) for p in providers for column in (code_column, cost_column))]
    table.require(PLAN_COLUMNS, known, without_code)
    return _Providers(
        with_code=tuple(p for p in providers if code_column(p) in table.at),
        with_cost=tuple(p for p in providers if cost_column(p) in table.at),
    )


def _read_row(line: Line, layout: _Providers, lines_of_skus: dict[str, int]) -> CatalogueRow | str:
    """The row, or what is wrong with it. `lines_of_skus`: where each SKU stands, for those that stand twice."""
    sku = line.take("sku", fields.read_sku, "")
    if sku and (earlier := lines_of_skus.setdefault(sku, line.number)) != line.number:
        line.mistakes.append(f"sku: {sku} stands on line {earlier} already")
    read_amount = partial(fields.read_amount_minor, currency=line.text("currency"))
    row = CatalogueRow(
        sku=sku,
        name=line.take("name", fields.read_name, ""),
        countries=line.take("country_iso2", fields.read_countries, ()),
        data_mb=line.take("data_mb", fields.read_data_mb, 0),
        validity_days=line.take("validity_days", fields.read_validity_days, 0),
        price_minor=line.take("price_minor", read_amount, 0),
        currency=line.take("currency", fields.read_currency, ""),
        codes={p: code for p in layout.with_code if (code := _read_code(line, p, layout, read_amount))},
        line=line.number,
    )
    return f"line {line.number}: {'; '.join(line.mistakes)}" if line.mistakes else row


def _read_code(line: Line, provider: str, layout: _Providers, read_amount: Callable[[str], int]) -> ProviderCode | None:
    cost = None
    if provider in layout.with_cost and line.text(cost_column(provider)):
        cost = line.take(cost_column(provider), read_amount, 0)
    if line.text(code_column(provider)):
        return ProviderCode(line.take(code_column(provider), fields.read_plan_code, ""), cost)
    if cost is not None:
        line.mistakes.append(f"{cost_column(provider)}: a cost needs a plan code in {code_column(provider)}")
    return None
