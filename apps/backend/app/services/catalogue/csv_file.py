"""The catalogue's CSV file (RFC 4180, and what spreadsheets make of it): bytes ↔ rows. Pure.

Header: `sku,name,country_iso2,data_mb,validity_days,price_minor,currency`, and for a provider `<provider>_plan_code`
and `<provider>_cost_minor`, lower case, in any order. An empty plan code: not sold at that provider.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from app.services.catalogue import fields
from app.services.catalogue.rows import (
    PLAN_COLUMNS,
    CatalogueFile,
    CatalogueRow,
    ProviderCode,
    code_column,
    cost_column,
)

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_PLANS: Final = 200_000
MAX_SHOWN: Final = 50

T = TypeVar("T")

_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class CatalogueFileRefused(ValueError):
    """The file cannot be imported. `mistakes`: one sentence for each bad line, all of them; `str()` holds the first 50."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        more = len(self.mistakes) - MAX_SHOWN
        super().__init__("\n".join([*self.mistakes[:MAX_SHOWN], *([f"and {more} more"] if more > 0 else [])]))


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which column holds what."""

    width: int
    at: dict[str, int]
    providers: tuple[str, ...]
    providers_with_cost: tuple[str, ...]


def read_catalogue(data: bytes, providers: Sequence[str]) -> CatalogueFile:
    """
    Args:
        data: UTF-8, with or without byte-order mark; LF, CRLF or CR; comma, semicolon or tab, as in the header.
        providers: those that need plan codes, by their names in settings ("CONNECTED_YOU").

    Raises:
        CatalogueFileRefused: at least one line is wrong. Lines are counted as an editor does.
    """
    if len(data) > MAX_BYTES:
        raise CatalogueFileRefused([f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB"])
    if data.startswith(_UTF_16_MARKS):
        raise CatalogueFileRefused(["the file is UTF-16: save it as CSV in UTF-8"])
    unreadable = _unreadable_lines(data)
    lines = list(io.StringIO(data.decode("utf-8-sig", "replace"), newline=""))
    records = _records(lines, unreadable)
    header = next(records, None)
    if header is None:
        raise CatalogueFileRefused(["the file is empty"])
    if isinstance(header[1], str):
        raise CatalogueFileRefused([f"line {header[0]}: {header[1]}"])
    layout = _read_header(header[0], header[1], providers)

    rows: list[CatalogueRow] = []
    mistakes: list[str] = []
    lines_of_skus: dict[str, int] = {}
    for count, (line, cells) in enumerate(records, 1):
        if count > MAX_PLANS:
            mistakes.append(f"the file has more than {MAX_PLANS} plans: import it in parts, without --replace")
            break
        found = cells if isinstance(cells, str) else _read_row(line, cells, layout, lines_of_skus)
        if isinstance(found, str):
            mistakes.append(f"line {line}: {found}")
        else:
            rows.append(found)
    if mistakes:
        raise CatalogueFileRefused(mistakes)
    if not rows:
        raise CatalogueFileRefused(["the file holds a header but no plan: there is nothing to import"])
    return CatalogueFile(tuple(rows), layout.providers, layout.providers_with_cost)


def write_catalogue(rows: Sequence[CatalogueRow], providers: Sequence[str]) -> str:
    """The file that `read_catalogue` reads these rows from; LF, commas. `providers`: whose codes and costs to state."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*PLAN_COLUMNS, *(column(p) for p in providers for column in (code_column, cost_column))])
    for row in rows:
        codes = [row.codes.get(provider) for provider in providers]
        of_providers = [cell for code in codes for cell in ((code.external_id, code.cost_minor) if code else ("", ""))]
        writer.writerow([*(getattr(row, column) for column in PLAN_COLUMNS), *of_providers])
    return file.getvalue()


def _unreadable_lines(data: bytes) -> dict[int, str]:
    """What is wrong with the bytes, by line; nearly always nothing."""
    try:
        data.decode()
        if b"\0" not in data:
            return {}
    except UnicodeDecodeError:
        pass
    found = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            found[number] = "is not UTF-8: save the file as CSV in UTF-8"
        if b"\0" in line:
            found[number] = "holds a NUL character"
    return found


def _records(lines: list[str], unreadable: dict[int, str]) -> Iterator[tuple[int, list[str] | str]]:
    """Number of the first line and stripped cells, or instead of cells a sentence on why there are none. No empty ones."""
    separator = max(",;\t", key=next((line for line in lines if line.strip()), "").count)
    dialect = {"delimiter": separator, "strict": True, "skipinitialspace": True}
    reader = csv.reader(lines, **dialect)  # type: ignore[arg-type] # typeshed wants each keyword by itself
    while True:
        first = reader.line_num + 1
        cells: list[str] | str
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            cells = _tidied(lines[first - 1], separator) if first == reader.line_num else []
            cells = cells or _quotes_mistake(error)
        for number in range(first, reader.line_num + 1) if unreadable else ():
            cells = unreadable.get(number, cells)
        if any(cells):
            yield first, cells


def _tidied(line: str, separator: str) -> list[str]:
    """The cells of a line that pads its columns with white space behind closing quotes; none where that isn't its fault."""
    tidy = re.sub(rf'"[ \t]+(?={separator}|[\r\n]|\Z)', '"', line)
    try:
        return [
            cell.strip() for cell in next(csv.reader([tidy], delimiter=separator, strict=True, skipinitialspace=True))
        ]
    except csv.Error:
        return []


def _quotes_mistake(error: csv.Error) -> str:
    if "expected after" in str(error):
        return 'a quoted field goes on behind its closing quote: write a quote inside a field twice, ""'
    return "a quoted field begins here and does not end: a quote is missing"


def _read_header(line: int, cells: list[str], providers: Sequence[str]) -> _Layout:
    names = [cell.lower() for cell in cells]
    known = {*PLAN_COLUMNS, *map(code_column, providers), *map(cost_column, providers)}
    mistakes = [
        f"column {number} has no name" if not name else f"{fields.shown(cells[number - 1])} is not a column"
        for number, name in enumerate(names, 1)
        if name not in known
    ]
    mistakes += [f"the column {name} is there twice" for name in dict.fromkeys(names) if name and names.count(name) > 1]
    mistakes += [f"the column {name} is missing" for name in PLAN_COLUMNS if name not in names]
    mistakes += [
        f"the column {cost_column(p)} needs {code_column(p)}"
        for p in providers
        if cost_column(p) in names and code_column(p) not in names
    ]
    if mistakes:
        columns = ",".join([*PLAN_COLUMNS, *(column(p) for p in providers for column in (code_column, cost_column))])
        raise CatalogueFileRefused(
            [*(f"line {line}: {mistake}" for mistake in mistakes), f"the columns are: {columns}"]
        )
    return _Layout(
        width=len(names),
        at={name: number for number, name in enumerate(names)},
        providers=tuple(p for p in providers if code_column(p) in names),
        providers_with_cost=tuple(p for p in providers if cost_column(p) in names),
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """A line's cells, taken one by one; what is wrong with them gathers in `mistakes`."""

    cells: list[str]
    layout: _Layout
    mistakes: list[str] = field(default_factory=list)

    def text(self, column: str) -> str:
        return self.cells[self.layout.at[column]]

    def take(self, column: str, read: Callable[[str], T], otherwise: T) -> T:
        try:
            return read(self.text(column))
        except ValueError as error:
            self.mistakes.append(f"{column}: {error}")
            return otherwise


def _read_row(number: int, cells: list[str], layout: _Layout, lines_of_skus: dict[str, int]) -> CatalogueRow | str:
    """The row, or what is wrong with it. `lines_of_skus`: where each SKU stands, for those that stand twice."""
    if len(cells) != layout.width:
        return f"{len(cells)} fields where the header has {layout.width} (a field that holds a separator needs quotes)"
    line = _Line(cells, layout)
    sku = line.take("sku", fields.read_sku, "")
    if sku and (earlier := lines_of_skus.setdefault(sku, number)) != number:
        line.mistakes.append(f"sku: {sku} stands on line {earlier} already")
    read_amount = partial(fields.read_amount_minor, currency=line.text("currency"))
    row = CatalogueRow(
        sku=sku,
        name=line.take("name", fields.read_name, ""),
        country_iso2=line.take("country_iso2", fields.read_country, ""),
        data_mb=line.take("data_mb", fields.read_data_mb, 0),
        validity_days=line.take("validity_days", fields.read_validity_days, 0),
        price_minor=line.take("price_minor", read_amount, 0),
        currency=line.take("currency", fields.read_currency, ""),
        codes={p: code for p in layout.providers if (code := _read_code(line, p, read_amount))},
        line=number,
    )
    return "; ".join(line.mistakes) or row


def _read_code(line: _Line, provider: str, read_amount: Callable[[str], int]) -> ProviderCode | None:
    cost = None
    if provider in line.layout.providers_with_cost and line.text(cost_column(provider)):
        cost = line.take(cost_column(provider), read_amount, 0)
    if line.text(code_column(provider)):
        return ProviderCode(line.take(code_column(provider), fields.read_plan_code, ""), cost)
    if cost is not None:
        line.mistakes.append(f"{cost_column(provider)}: a cost needs a plan code in {code_column(provider)}")
    return None
