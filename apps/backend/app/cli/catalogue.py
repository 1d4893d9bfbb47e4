"""`tribi catalogue`: plans and their provider codes, in and out as a CSV file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.office import Json, actor, csv_bytes, print_json, print_table, run

if TYPE_CHECKING:
    from app.house import House
    from app.services.catalogue.checking import Finding
    from app.services.catalogue.diff import Diff
    from app.services.catalogue.rows import CatalogueFile, CatalogueRow

app = typer.Typer(help="What is sold: plans, prices and the providers' codes.", no_args_is_help=True)

# A first import is long, and nothing is lost by it. What changes or is withdrawn is shown whole: whoever says yes has seen it.
_MAX_ADDED = 20


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE.csv", help="The file; - reads standard input.")],
    yes: Annotated[bool, typer.Option("--yes", help="Import without asking.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Take off sale what the file doesn't mention.")] = False,
    json: Json = False,
) -> None:
    """
    Import plans: all of the file or nothing of it.

    Columns, in any order: sku, name, country_iso2 (ES; of a plan for several countries "ES FR PT", the primary one
    first), data_mb, validity_days, price_minor (1290 is 12.90), currency, connected_you_plan_code,
    connected_you_cost_minor. An empty plan code: not sold at that provider. Plans that the file doesn't mention stay as
    they are, and orders keep their plan as it was sold.
    """
    catalogue = _read_file(file)
    if yes:
        diff = run(lambda house: _apply(house, catalogue, file, replace, None))
        _show(diff, json=json, is_done=True)
        return
    diff = run(lambda house: _plan(house, catalogue, replace))
    can_ask = sys.stdin.isatty() and file != "-" and not json
    _show(diff, json=json, is_done=can_ask and diff.is_empty)
    if not can_ask:
        raise ValueError(f"nothing was imported; to import this, type: {_line_to_type(file, replace)}")
    if diff.is_empty:
        return
    # No database is held open meanwhile: the answer may take an hour.
    if not typer.confirm("Import?", err=True):
        raise ValueError("nothing was imported")
    run(lambda house: _apply(house, catalogue, file, replace, diff))
    typer.echo("Imported.", err=True)


@app.command()
def export(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where to; - is standard output.")] = "-",
) -> None:
    """Write the plans on sale as a file that `import` reads."""

    async def work(house: "House") -> str:
        from app.services.catalogue.stored import export_catalogue
        from app.services.esim_providers import providers_with_plan_codes

        async with house.db.read() as connection:
            return await export_catalogue(connection, providers_with_plan_codes())

    data = run(work).encode()
    if file == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        Path(file).write_bytes(data)
    except OSError as error:
        raise ValueError(f"cannot write {file}: {error.strerror}") from error


@app.command()
def check(json: Json = False) -> None:
    """Look for what is odd: plans that can't be sold, codes used twice, prices below cost. Exit status 1 on an error."""

    async def work(house: "House") -> list["Finding"]:
        from app.services.catalogue.checking import check_catalogue
        from app.services.esim_providers import plan_code_provider

        async with house.db.read() as connection:
            return await check_catalogue(connection, plan_code_provider(house.settings))

    findings = run(work)
    if json:
        print_json(
            [
                {"code": f.code, "severity": f.severity.value, "skus": list(f.skus), "sentence": f.sentence}
                for f in findings
            ]
        )
    else:
        for finding in findings:
            typer.echo(f"{finding.severity.value}: {finding.sentence}")
        if not findings:
            typer.echo("The catalogue is in order.")
    if any(finding.severity.value == "error" for finding in findings):
        raise typer.Exit(1)


def _read_file(file: str) -> "CatalogueFile":
    from app.csv_table import CsvRefused
    from app.services.catalogue.csv_file import read_catalogue
    from app.services.esim_providers import providers_with_plan_codes

    try:
        return read_catalogue(csv_bytes(file), providers_with_plan_codes())
    except CsvRefused as refused:
        raise ValueError(f"{refused}\nnothing was imported") from refused


async def _plan(house: "House", catalogue: "CatalogueFile", replace: bool) -> "Diff":
    from app.services.catalogue.importing import plan_import

    async with house.db.read() as connection:
        return await plan_import(connection, catalogue, replacing=replace)


async def _apply(
    house: "House", catalogue: "CatalogueFile", file: str, replace: bool, expected: "Diff | None"
) -> "Diff":
    from app.services.catalogue.importing import apply_import

    # a file's name may hold bytes that are no text, which no database takes
    name = "standard input" if file == "-" else Path(file).name.encode("utf-8", "replace").decode()
    async with house.db.begin() as connection:
        return await apply_import(
            connection, catalogue, replacing=replace, actor=actor(), file_name=name, expected=expected
        )


def _line_to_type(file: str, replace: bool) -> str:
    import shlex

    return f"tribi catalogue import {shlex.quote(file)} --yes{' --replace' if replace else ''}"


def _show(diff: "Diff", *, json: bool, is_done: bool) -> None:
    if json:
        print_json(_shape(diff) | {"imported": is_done})
        return
    details = _details(diff)
    if details and sys.stdout.isatty():
        print_table(["", "SKU", "PLAN"], details)
    else:
        for what, sku, text in details:
            typer.echo(f"{what} {sku}: {text}")
    if len(diff.added) > _MAX_ADDED:
        typer.echo(f"and {len(diff.added) - _MAX_ADDED} more added")
    counts = ", ".join(f"{count} {what}" for what, count in diff.counts().items() if what != "kept")
    typer.echo(f"{'Imported' if is_done else 'To import'}: {counts}.")
    if diff.kept:
        typer.echo(f"{diff.kept} on sale and not in the file: kept (--replace takes them off sale).")


def _details(diff: "Diff") -> list[list[str]]:
    from app.values.money import Money

    return [
        *(["withdrawn", sku, "is no longer on sale"] for sku in diff.withdrawn),
        *(
            ["changed", change.row.sku, f"{field.column} {_plain(field.old)} → {_plain(field.new)}"]
            for change in diff.changed
            for field in change.fields
        ),
        *(
            [
                "added",
                row.sku,
                f"{row.name}, {_countries(row.countries)}, {row.data_mb} MB, {row.validity_days} days, "
                f"{Money(row.price_minor, row.currency)}; {_codes(row)}",
            ]
            for row in diff.added[:_MAX_ADDED]
        ),
    ]


def _codes(row: "CatalogueRow") -> str:
    """Under which code each provider sells it to us, and at what cost."""
    from app.values.money import Money

    codes = (
        f"{provider} {code.external_id}"
        + ("" if code.cost_minor is None else f" at {Money(code.cost_minor, row.currency)}")
        for provider, code in row.codes.items()
    )
    return ", ".join(codes) or "no code"


def _countries(countries: tuple[str, ...]) -> str:
    others = len(countries) - 1
    return countries[0] if not others else f"{countries[0]} and {others} other{'s' if others > 1 else ''}"


def _plain(value: str | int | None) -> str:
    return "(none)" if value is None else str(value)


def _shape(diff: "Diff") -> dict[str, Any]:
    """The diff for programs."""
    return {
        "counts": diff.counts(),
        "added": [row.sku for row in diff.added],
        "changed": [
            {
                "sku": change.row.sku,
                "fields": [{"column": field.column, "old": field.old, "new": field.new} for field in change.fields],
            }
            for change in diff.changed
        ],
        "withdrawn": list(diff.withdrawn),
    }
