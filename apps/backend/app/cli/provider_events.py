"""`tribi providers news` and `event`: what providers have told of their own accord."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.office import GREATEST_ID, LISTED, Json, Limit, actor, note_end, plain, print_json, print_table, run

if TYPE_CHECKING:
    from app.house import House
    from app.services.news.on_file import EventInFull, EventOnFile


def register(app: typer.Typer) -> None:
    app.command()(news)
    app.command()(event)


def news(
    parked: Annotated[bool, typer.Option("--parked", help="Only those about eSIMs that aren't ours (yet).")] = False,
    odd: Annotated[bool, typer.Option("--odd", help="Only those that can't be understood or believed.")] = False,
    esim: Annotated[
        int | None, typer.Option(min=1, max=GREATEST_ID, metavar="ID", help="Only those about this eSIM.")
    ] = None,
    limit: Limit = LISTED,
    json: Json = False,
) -> None:
    """List the events that providers have sent, newest first, and what became of each."""
    if parked and odd:
        raise ValueError("--parked and --odd: an event is one or the other")

    async def work(house: "House") -> list["EventOnFile"]:
        from app.services.news.on_file import list_events

        outcome = "parked" if parked else "odd" if odd else None
        async with house.db.read() as connection:
            return await list_events(connection, outcome=outcome, esim_id=esim, limit=limit)

    events = run(work)
    note_end(events, limit)
    shapes = [event_shape(found) for found in events]
    if json:
        print_json(shapes)
        return
    columns = ("id", "type", "at", "outcome", "esim_id", "warnings")
    rows = [[_cell(shape[column]) for column in columns] for shape in shapes]
    print_table(["ID", "TYPE", "AT", "OUTCOME", "ESIM", "WARNINGS"], rows)


def event(
    event_id: Annotated[int, typer.Argument(min=1, max=GREATEST_ID, metavar="ID")],
    json: Json = False,
) -> None:
    """Show an event with its body, as it was received. That you looked is on the audit trail."""

    async def work(house: "House") -> "EventInFull":
        from app.audit import Tag, record
        from app.services.news.on_file import event_in_full

        async with house.db.begin() as connection:
            found = await event_in_full(connection, house.vault, event_id)
            await record(connection, actor(), Tag.PROVIDER_EVENTS_VIEWED, "provider_events", event_id)
        return found

    found = run(work)
    shown = event_shape(found.event) | {"body": found.body.decode("utf-8", "replace")}
    if json:
        print_json(shown)
        return
    for name, value in shown.items():
        typer.echo(f"{name + ':':<14}{plain(value)}")


def event_shape(found: "EventOnFile") -> dict[str, Any]:
    """`outcome`: null while it waits to be looked at."""
    from app.shapes import rfc3339

    return {
        "id": found.id,
        "provider": found.provider,
        "type": found.kind,
        "at": rfc3339(found.at),
        "received_at": rfc3339(found.received_at),
        "outcome": found.outcome,
        "esim_id": found.esim_id,
        "warnings": list(found.warnings),
    }


def _cell(value: Any) -> str:  # noqa: ANN401 - a member of a shape
    if isinstance(value, list):
        return " ".join(value)
    return "" if value is None else re.sub(r"T(.{8})\.\d+Z", r" \1", str(value))  # times to the second: lines are short
