"""CSV files (RFC 4180, and what spreadsheets make of it): bytes → a header and lines of cells. Pure.

UTF-8, with or without byte-order mark; LF, CRLF or CR; comma, semicolon or tab, as in the header. Lines are counted as an editor
does. What a line means is its reader's affair.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_SHOWN: Final = 50

T = TypeVar("T")

_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class CsvRefused(ValueError):
    """The file cannot be taken. `mistakes`: one sentence for each bad line, all of them; `str()` holds the first 50."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        more = len(self.mistakes) - MAX_SHOWN
        super().__init__("\n".join([*self.mistakes[:MAX_SHOWN], *([f"and {more} more"] if more > 0 else [])]))


@dataclass(frozen=True, slots=True)
class Line:
    """A line's cells, taken one by one; what is wrong with them gathers in `mistakes`."""

    number: int
    cells: list[str]
    at: dict[str, int]
    mistakes: list[str] = field(default_factory=list)

    def text(self, column: str) -> str:
        """What stands there, without white space around it; nothing where the file hasn't that column."""
        return self.cells[self.at[column]] if column in self.at else ""

    def take(self, column: str, read: Callable[[str], T], otherwise: T) -> T:
        try:
            return read(self.text(column))
        except ValueError as error:
            self.mistakes.append(f"{column}: {error}")
            return otherwise


@dataclass(frozen=True, slots=True)
class Table:
    """`at`: where each column stands, by its name in small letters."""

    header_line: int
    header: list[str]
    at: dict[str, int]
    _records: Iterator[tuple[int, list[str] | str]]

    def lines(self) -> Iterator[Line | str]:
        """Line by line, without empty ones; instead of a line that can't be read a sentence that names it. Only once."""
        for number, cells in self._records:
            if isinstance(cells, str):
                yield f"line {number}: {cells}"
            elif len(cells) != len(self.header):
                yield (
                    f"line {number}: {len(cells)} fields where the header has {len(self.header)} "
                    "(a field that holds a separator needs quotes)"
                )
            else:
                yield Line(number, cells, self.at)

    def require(self, needed: Sequence[str], known: Sequence[str], also_wrong: Sequence[str] = ()) -> None:
        """
        Checks the header.

        Args:
            known: all columns that there may be, in the order in which they are told.
            also_wrong: what else is wrong with it.

        Raises:
            CsvRefused: a column is missing, unknown or there twice.
        """
        names = [cell.lower() for cell in self.header]
        mistakes = [
            f"column {number} has no name" if not name else f"{shown(self.header[number - 1])} is not a column"
            for number, name in enumerate(names, 1)
            if name not in known
        ]
        twice = [name for name in dict.fromkeys(names) if name and names.count(name) > 1]
        mistakes += [f"the column {name} is there twice" for name in twice]
        mistakes += [f"the column {name} is missing" for name in needed if name not in names]
        mistakes += also_wrong
        if mistakes:
            told = [f"line {self.header_line}: {mistake}" for mistake in mistakes]
            raise CsvRefused([*told, f"the columns are: {','.join(known)}"])


def read_table(data: bytes) -> Table:
    """
    Raises:
        CsvRefused: it is too large, not UTF-8 from the start, or has no header.
    """
    if len(data) > MAX_BYTES:
        raise CsvRefused([f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB"])
    if data.startswith(_UTF_16_MARKS):
        raise CsvRefused(["the file is UTF-16: save it as CSV in UTF-8"])
    lines = list(io.StringIO(data.decode("utf-8-sig", "replace"), newline=""))
    records = _records(lines, _unreadable_lines(data))
    header = next(records, None)
    if header is None:
        raise CsvRefused(["the file is empty"])
    number, cells = header
    if isinstance(cells, str):
        raise CsvRefused([f"line {number}: {cells}"])
    return Table(number, cells, {cell.lower(): index for index, cell in enumerate(cells)}, records)


def shown(text: str) -> str:
    """Text from outside in a message: short, and without what a terminal would act on."""
    cut = text if len(text) <= 40 else text[:40] + "…"
    return cut if cut.isprintable() and " " not in cut else repr(cut)


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
