"""What the commands share: an open installation for the length of a command, and how results are printed."""

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Sized

    from app.house import House

T = TypeVar("T")

GREATEST_ID = 2**63 - 1
"""What a PostgreSQL bigint holds."""

LISTED = 1000
"""What a list of something that grows for years shows unless more is asked for."""

Limit = Annotated[int, typer.Option(min=1, max=GREATEST_ID, help="At most so many, the newest.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, of the API's own shape.")]


def run(work: "Callable[[House], Awaitable[T]]") -> T:
    """Opens the installation (starting the embedded database if need be), does the work, closes it."""
    from app.house import open_house  # all that is behind it takes a second, which `--help` doesn't need
    from app.logs import configure_logging
    from app.settings import load_settings

    settings = load_settings()
    configure_logging(level="WARNING", known_secrets=settings.secrets())

    async def opened() -> T:
        async with open_house(settings) as house:
            return await work(house)

    return asyncio.run(opened())


@contextmanager
def database() -> Iterator[str]:
    """The database's URL (the embedded one is started if need be), for what needs no more of the installation."""
    from app.errors import ConfigurationError
    from app.postgres import EmbeddedPostgresError, hold
    from app.settings import load_settings

    settings = load_settings()
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    try:
        server = hold(settings.tribi_data_dir)
    except EmbeddedPostgresError as error:
        raise ConfigurationError(str(error)) from error
    with server:
        yield server.url


def note_end(found: "Sized", limit: int) -> None:
    """Says so where a list may have ended for its limit alone."""
    if len(found) == limit == LISTED:
        typer.echo(f"These are the newest {LISTED}; --limit shows more.", err=True)


def actor() -> str:
    """Who types, for the audit trail."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli:unknown"


def csv_bytes(file: str) -> bytes:
    """What a file holds, or standard input for `-`; no more than shows that it is too large."""
    from app.csv_table import MAX_BYTES

    try:
        if file == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with Path(file).open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from error


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever is JSON
    typer.echo(json.dumps(value, ensure_ascii=False, default=str, indent=2))


def plain(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """For a terminal, which may obey what others have written (a provider, say)."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


_WIDEST = 1000


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console  # 60 ms that `--json` doesn't need
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    # Into a pipe or a file all of it goes, whatever the width: `grep` finds nothing in a word that was cut.
    Console(markup=False, width=None if sys.stdout.isatty() else _WIDEST).print(table)
