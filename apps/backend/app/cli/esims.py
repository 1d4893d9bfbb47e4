"""`tribi esims`: what support does."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.office import (
    GREATEST_ID,
    LISTED,
    Json,
    Limit,
    actor,
    csv_bytes,
    note_end,
    plain,
    print_json,
    print_table,
    run,
)
from app.cli.provider_events import event_shape

if TYPE_CHECKING:
    from app.house import House
    from app.services.esims.esim import Esim
    from app.services.esims.settle_many import Settled

app = typer.Typer(help="eSIMs: what is stuck, why, and settling it.", no_args_is_help=True)

EsimId = Annotated[int, typer.Argument(min=1, max=GREATEST_ID, metavar="ID")]


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only those in this status.")] = None,
    unfulfilled: Annotated[
        bool, typer.Option(help="Only those paid 15 minutes ago and still not provisioned.")
    ] = False,
    mail_refused: Annotated[
        bool, typer.Option(help="Only those whose message the mail server has refused for good.")
    ] = False,
    limit: Limit = LISTED,
    json: Json = False,
) -> None:
    """List eSIMs, newest first."""
    from app.services.esims.esim import STATUSES, list_esims
    from app.settings import public_url
    from app.shapes import esim_shape, rfc3339

    if status is not None and status not in STATUSES:
        raise ValueError(f"--status must be one of: {', '.join(STATUSES)}")

    async def work(house: "House") -> tuple[list["Esim"], str]:
        async with house.db.begin() as connection:
            esims = await list_esims(
                connection,
                house.vault,
                status=status,
                only_unfulfilled=unfulfilled,
                only_undelivered=mail_refused,
                limit=limit,
            )
            if json:  # only then codes are shown
                await _note_look(connection, None, len(esims))
            return esims, public_url(house.settings)

    esims, base_url = run(work)
    note_end(esims, limit)
    if json:
        print_json([esim_shape(esim, base_url).model_dump(mode="json") for esim in esims])
        return
    rows = [
        [
            str(esim.id),
            str(esim.order_id),
            esim.status,
            esim.provider + ("" if esim.is_live else " (test)"),
            rfc3339(esim.provisioned_at) or "",
            " ".join(esim.warnings),
        ]
        for esim in esims
    ]
    print_table(["ID", "ORDER", "STATUS", "PROVIDER", "PROVISIONED", "WARNINGS"], rows)


@app.command()
def show(esim_id: EsimId, json: Json = False) -> None:
    """Show an eSIM with its attempts, every word of the provider and its news. That you looked is on the audit trail."""
    from app.services.esims.dossier import dossier_of
    from app.services.news.on_file import list_events
    from app.settings import public_url
    from app.shapes import esim_shape

    async def work(house: "House") -> dict[str, Any]:
        async with house.db.begin() as connection:
            dossier = await dossier_of(connection, house.vault, esim_id)
            news = [event_shape(event) for event in await list_events(connection, esim_id=esim_id)]
            await _note_look(connection, esim_id, 1)
        shown = esim_shape(dossier.esim, public_url(house.settings)).model_dump(mode="json")
        return shown | {
            "provider_payload": dossier.provider_payload,
            "attempts": [_with_times(attempt) for attempt in dossier.attempts],
            "mails": [_with_times(mail) for mail in dossier.mails],
            "news": news,
        }

    shown = run(work)
    if json:
        print_json(shown)
        return
    for name, value in shown.items():
        if name not in {"attempts", "mails", "news"}:
            typer.echo(f"{name + ':':<28}{plain(value)}")
    for title, name in (("attempt", "attempts"), ("mail", "mails"), ("event", "news")):
        for one in shown[name]:
            typer.echo(f"{title} {one['id']}")
            for member, value in one.items():
                if member != "id":
                    typer.echo(f"  {member + ':':<26}{plain(value)}")


def _with_times(row: dict[str, Any]) -> dict[str, Any]:
    """Its instants in the form that all others have."""
    from app.shapes import rfc3339

    return {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in row.items()}


@app.command()
def resend(
    esim_id: EsimId,
    to: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The order's address has a mistake in it: correct it, and send there."),
    ] = None,
) -> None:
    """
    Send the traveller the message with QR, link and steps again. That you did so is on the audit trail.

    --to changes the order: all later messages go to that address, and with it the traveller signs in.
    """
    from app.mail import folder_of_files
    from app.services.esims.resend import Resend, resend_instructions
    from app.values.email_address import read_email

    address = None if to is None else read_email(to)

    async def work(house: "House") -> "tuple[Resend, Path | None]":
        resend = await resend_instructions(house, esim_id, actor=actor(), to=address, is_limited=False)
        return resend, folder_of_files(house.settings)

    written, folder = run(work)
    if folder is None:
        typer.echo(f"Message {written.mail_id} of eSIM {esim_id} is on its way: a running server or worker sends it.")
    else:
        file = folder / f"esim-{esim_id}-resend-{written.number}.eml"
        typer.echo(f"No mail server is set (SMTP_URL): a running server or worker writes the message to {file}")


@app.command()
def resolve(
    esim_id: Annotated[
        int | None, typer.Argument(min=1, max=GREATEST_ID, metavar="ID", help="The eSIM; not with --csv.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="How you know; it stays on the audit trail.")] = None,
    issued: Annotated[str | None, typer.Option(metavar="CODE", help="It was issued: its activation code.")] = None,
    iccid: Annotated[str | None, typer.Option(help="With --issued: the ICCID, where the provider tells it.")] = None,
    not_issued: Annotated[
        bool, typer.Option("--not-issued", help="It was not issued: the order may be activated again.")
    ] = False,
    csv: Annotated[
        str | None, typer.Option(metavar="FILE", help="Settle what this file says; - reads standard input.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="With --csv: print what came of each line as JSON.")] = False,
) -> None:
    """
    Settle an eSIM whose outcome is unknown, after asking the provider; or many, by a CSV file.

    The file's columns: esim_id or order_reference (order-123), outcome (issued or not-issued), activation_code, iccid, reason. All
    lines are checked before anything is done. Then each is settled by itself; the same file may be run again.
    """
    from app.services.esims.settlements import is_reason

    if csv is not None:
        if not_issued or any(given is not None for given in (esim_id, reason, issued, iccid)):
            raise ValueError("--csv goes alone: its file says what is settled, how and why")
        _resolve_file(csv, json=json)
        return
    if esim_id is None:
        raise ValueError("say which eSIM: ID, or --csv FILE for many")
    if json:
        raise ValueError("--json goes with --csv")
    if (issued is None) != not_issued:
        raise ValueError("say either --issued CODE or --not-issued")
    if not_issued and iccid:
        raise ValueError("--iccid goes with --issued")
    if reason is None or not is_reason(reason):
        raise ValueError("--reason must say how you know, in one line of text")
    esim = _resolve_one(esim_id, issued, iccid, reason)
    typer.echo(f"eSIM {esim.id} is {esim.status}.")


def _resolve_one(esim_id: int, issued: str | None, iccid: str | None, reason: str) -> "Esim":
    from app.services.esims.resolve import resolve_issued, resolve_not_issued
    from app.values.activation_code import ActivationCode
    from app.values.iccid import Iccid

    code = ActivationCode.read(issued) if issued is not None else None
    number = Iccid.read(iccid) if iccid else None

    async def work(house: "House") -> "Esim":
        if code is not None:
            return await resolve_issued(
                house.db, house.vault, esim_id, code=code, iccid=number, reason=reason, actor=actor()
            )
        return await resolve_not_issued(house.db, house.vault, esim_id, reason=reason, actor=actor())

    return run(work)


def _resolve_file(file: str, *, json: bool) -> None:
    from app.csv_table import CsvRefused
    from app.services.esims.settle_many import Ending, settle_many
    from app.services.esims.settlements import read_settlements

    try:
        settlements = read_settlements(csv_bytes(file))
    except CsvRefused as refused:
        raise ValueError(f"{refused}\nnothing was settled") from refused

    async def work(house: "House") -> list["Settled"]:
        results = []
        async for settled in settle_many(house.db, house.vault, settlements, actor=actor()):
            results.append(settled)
            if not json:
                _tell(settled)
        return results

    results = run(work)
    count = Counter(settled.ending for settled in results)
    if json:
        print_json([_settled_shape(settled) for settled in results])
    else:
        counts = ", ".join(f"{count[ending]} {ending.value.replace('-', ' ')}" for ending in Ending)
        typer.echo(f"{len(results)} lines: {counts}.")
    if count[Ending.FAILED]:
        raise typer.Exit(1)


def _tell(settled: "Settled") -> None:
    from app.services.esims.settle_many import Ending

    line = f"line {settled.settlement.line}"
    if settled.ending is Ending.FAILED:
        typer.echo(f"tribi: {line}: {settled.error}", err=True)
    else:
        so = " already" if settled.ending is Ending.ALREADY_SETTLED else ""
        typer.echo(f"{line}: eSIM {settled.esim_id} is {settled.status}{so}.")


def _settled_shape(settled: "Settled") -> dict[str, Any]:
    from app.services.esims.intent import reference_of

    settlement = settled.settlement
    return {
        "line": settlement.line,
        "esim_id": settled.esim_id,
        "order_reference": None if settlement.order_id is None else reference_of(settlement.order_id),
        "outcome": "not-issued" if settlement.code is None else "issued",
        "result": settled.ending.value,
        "status": settled.status,
        "error": settled.error,
    }


@app.command()
def replay(esim_id: EsimId) -> None:
    """Send an unknown order again, once, to a provider that doesn't bill a repeated reference twice."""
    from app.services.esim_providers import get_esim_provider
    from app.services.esims.activate import Activation, Activations
    from app.services.esims.esim import esim_by_id

    async def work(house: "House") -> Activation:
        provider = get_esim_provider(house.settings)
        timeout_s = house.settings.provider_timeout_s
        activations = Activations(house, provider, timeout_s=timeout_s, wait_s=timeout_s, max_concurrency=1)
        try:
            async with house.db.read() as connection:
                order_id = (await esim_by_id(connection, house.vault, esim_id)).order_id
            return await activations.replay(order_id, actor=actor())
        finally:
            await activations.drain(timeout_s)
            await provider.close()

    esim = run(work).esim
    typer.echo(f"eSIM {esim.id} is {esim.status}.")


@app.command()
def link(
    esim_id: EsimId,
    renew: Annotated[
        bool, typer.Option("--renew", help="Make a new link, valid as long as a new order's; the old one ends.")
    ] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="End the link: whoever opens it is told to ask the shop.")
    ] = False,
    json: Json = False,
) -> None:
    """
    Show the link to an eSIM's install page, for its traveller only: whoever has it can take the eSIM.

    The link stands alone on standard output; that you looked is on the audit trail.
    """
    from app.services.orders.page_links import (
        page_address,
        page_expiry,
        page_links,
        page_token_of,
        renew_page_token,
        withdraw_page,
    )
    from app.settings import public_url
    from app.shapes import rfc3339

    if renew and withdraw:
        raise ValueError("say either --renew or --withdraw")

    async def work(house: "House") -> tuple[dict[str, Any], bool]:
        async with house.db.begin() as connection:
            token = None
            if withdraw:
                await withdraw_page(connection, esim_id, actor=actor())
            else:
                find = renew_page_token if renew else page_token_of
                token = await find(connection, page_links(house), esim_id, actor=actor())
                await _note_look(connection, esim_id, 1)
            expires_at = rfc3339(await page_expiry(connection, esim_id))
        url = None if token is None else page_address(public_url(house.settings), token)
        return {"page_url": url, "expires_at": expires_at}, house.settings.public_url is None

    shown, is_guess = run(work)
    if json:
        print_json(shown)
    elif withdraw:
        typer.echo(f"eSIM {esim_id} has no link any more; --renew makes a new one.")
    else:
        typer.echo(f"Works until {shown['expires_at']}.", err=True)
        if is_guess:
            typer.echo(
                "PUBLIC_URL is not set: where the server listens isn't known here, so its beginning is a guess.",
                err=True,
            )
        typer.echo(shown["page_url"])


async def _note_look(connection: Any, esim_id: int | None, count: int) -> None:  # noqa: ANN401 - AsyncConnection, imported late
    from app.audit import Tag, record

    await record(connection, actor(), Tag.ESIM_VIEWED, "esim_profiles", esim_id, count=count)
