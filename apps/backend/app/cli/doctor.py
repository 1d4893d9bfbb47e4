"""`tribi doctor`: the go-live checklist, and one real purchase on demand."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.office import Json, actor, plain, print_json, run

if TYPE_CHECKING:
    from app.services.doctor.answer import SeenField
    from app.services.doctor.findings import Finding
    from app.services.doctor.offer import Offer
    from app.services.doctor.purchase import Purchase
    from app.settings import Settings

_STYLES = {"passed": "green", "failed": "bold red", "by hand": "yellow"}
_WIDTH_OFF_TERMINAL = 160


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    live: Annotated[
        bool, typer.Option("--live", help="Buy one eSIM where orders go now, after showing the request and asking.")
    ] = False,
    sku: Annotated[str | None, typer.Option(help="With --live: which plan; the cheapest unless given.")] = None,
    email: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="With --live: whom it is for; MAIL_FROM unless given.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a dated report as Markdown; it holds no secret.")
    ] = None,
    json: Json = False,
) -> None:
    """
    Go through the go-live checklist: what is well, what is not, and what is left to do by hand. Exit status 1 if a line failed.

    Nothing is bought, sent to the provider or mailed, unless --live is given.
    """
    if not live and (sku is not None or email is not None):
        raise ValueError("--sku and --email go with --live")
    if report is not None:
        _write(report, "")  # before anything is bought, not after
    settings, findings = _checklist()
    if not json:
        _banner(settings)
        _print(findings)
    if live and settings is not None:
        bought = _buy(settings, sku=sku, email=email)
        if not json:
            _print_fields(bought.fields)
            told = {f"live-{field.path}" for field in bought.fields}
            _print([found for found in bought.findings if found.name not in told or found.to_do is not None])
        findings += bought.findings
    if report is not None:
        from app.services.doctor.report import write_report

        _write(report, write_report(findings, settings, datetime.now(UTC)))
    if json:
        print_json([_shape(finding) for finding in findings])
    else:
        count = Counter(finding.result.value for finding in findings)
        typer.echo(", ".join(f"{count[result]} {result}" for result in _STYLES) + ".")
    if any(finding.result.value == "failed" for finding in findings):
        raise typer.Exit(1)


def _checklist() -> "tuple[Settings | None, list[Finding]]":
    from app.errors import ConfigurationError
    from app.logs import configure_logging
    from app.services.doctor.examine import examine, mistakes
    from app.settings import load_settings

    try:
        settings = load_settings()
    except ConfigurationError as error:
        return None, mistakes(error)
    configure_logging(level="CRITICAL", known_secrets=settings.secrets())  # what there is to say stands in the lines
    return settings, asyncio.run(examine(settings))


def _buy(settings: "Settings", *, sku: str | None, email: str | None) -> "Purchase":
    from app.errors import ConfigurationError, TribiError
    from app.services.doctor.examine import safe
    from app.services.doctor.findings import failed
    from app.services.doctor.offer import LINE, make_offer, why_not
    from app.services.doctor.purchase import OfferHasChanged, Purchase, buy

    def nothing_sent(why: str, to_do: str) -> Purchase:
        return Purchase([safe(failed(LINE, f"nothing was sent: {why}", to_do), settings)], [])

    if (refusal := why_not(settings)) is not None:
        return Purchase([refusal], [])
    try:
        email = None if email is None else _address(email)
        offer = run(lambda house: make_offer(house, sku=sku, email=email))
        # No database is held open meanwhile: the answer may take an hour.
        _show(offer, settings)
        if not _says_yes():
            return nothing_sent("the answer was not y", "answer y to buy one")
        who = actor()
        bought = run(lambda house: buy(house, offer, actor=who))
    except OfferHasChanged:
        return nothing_sent("catalogue or settings have changed since the request was shown", "run it again")
    except (ConfigurationError, TribiError, ValueError) as error:
        return nothing_sent(str(error), "put that right, then run it again")
    return Purchase([safe(finding, settings) for finding in bought.findings], bought.fields)


def _address(text: str) -> str:
    from app.values.email_address import read_email

    return read_email(text)


def _show(offer: "Offer", settings: "Settings") -> None:
    shown = offer.shown
    lines = [
        f"One eSIM would be bought, for real, at {settings.esim_provider}:",
        "",
        f"  {shown.method} {shown.url}",
        *(f"  {name}: {value}" for name, value in shown.headers.items()),
        "",
        *(f"  {plain(line)}" for line in shown.body.splitlines()),
        "",
        f"Plan {offer.new.sku}: sold for {offer.price}, cost there: {offer.cost}. It is mailed to {offer.new.customer_email}.",
    ]
    typer.echo("\n".join(lines), err=True)


def _says_yes() -> bool:
    typer.echo("Buy it? Type y: ", err=True, nl=False)
    answer = sys.stdin.readline()
    if not sys.stdin.isatty():
        typer.echo(err=True)  # nobody has typed the line's end
    return answer.strip().lower() == "y"


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write {file}: {error.strerror}") from error


def _shape(finding: "Finding") -> dict[str, str | None]:
    return {"name": finding.name, "result": finding.result.value, "detail": finding.detail, "to_do": finding.to_do}


def _banner(settings: "Settings | None") -> None:
    if settings is not None and settings.is_live:
        typer.secho(f"LIVE ORDERS ARE ON: each activation spends money at {settings.esim_provider}.", bold=True)


def _print(findings: "Sequence[Finding]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("RESULT", "LINE", "FOUND, AND WHAT TO DO", box=None, pad_edge=False, header_style="bold")
    for finding in findings:
        told = Text(plain(finding.detail))
        if finding.to_do is not None:
            told.append(f"\n→ {plain(finding.to_do)}", style="italic")
        table.add_row(Text(finding.result.value, style=_STYLES[finding.result.value]), Text(finding.name), told)
    Console(width=None if sys.stdout.isatty() else _WIDTH_OFF_TERMINAL, highlight=False).print(table)


def _print_fields(fields: "Sequence[SeenField]") -> None:
    """On the terminal of whoever has bought it, the code included; nowhere else."""
    for field in fields:
        typer.echo(
            f"{plain(field.path)}\n  expected  {field.expected}\n  got       {plain(field.got)}\n  {field.verdict}"
        )
