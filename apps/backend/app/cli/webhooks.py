"""`tribi webhooks`: where the seller hears of events, and what became of telling it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.office import GREATEST_ID, LISTED, Json, Limit, actor, note_end, plain, print_json, print_table, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.house import House
    from app.services.webhooks.deliveries import LoggedDelivery
    from app.services.webhooks.endpoints import Endpoint
    from app.services.webhooks.rehearse import Rehearsal

app = typer.Typer(help="The seller's webhook endpoints (Standard Webhooks).", no_args_is_help=True)

EndpointId = Annotated[int, typer.Argument(min=1, max=GREATEST_ID, metavar="ID")]
Events = Annotated[list[str] | None, typer.Option("--event", help="Only this event; may be given several times.")]


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="https://…, of a public address.")],
    event: Events = None,
) -> None:
    """Add an endpoint. Its secret is printed once, alone on standard output."""
    from app.services.webhooks.endpoints import add_endpoint

    async def work(house: "House") -> tuple["Endpoint", str]:
        async with house.db.begin() as connection:
            return await add_endpoint(
                connection,
                house.keyring,
                url,
                event or [],
                allow_private=house.settings.webhooks_allow_private,
                actor=actor(),
            )

    endpoint, secret = run(work)
    typer.echo(
        f"Webhook endpoint {endpoint.id}: {_heard(endpoint)}. Keep the secret: it can't be shown again.", err=True
    )
    typer.echo(secret)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the endpoints; their secrets can't be shown again."""
    from app.services.webhooks.endpoints import list_endpoints
    from app.shapes import endpoint_shape, rfc3339

    async def work(house: "House") -> list["Endpoint"]:
        async with house.db.read() as connection:
            return await list_endpoints(connection)

    endpoints = run(work)
    if json:
        print_json([endpoint_shape(endpoint).model_dump(mode="json") for endpoint in endpoints])
        return
    rows = [[str(one.id), _state(one), rfc3339(one.failing_since) or "", _heard(one), one.url] for one in endpoints]
    print_table(["ID", "STATE", "FAILING SINCE", "EVENTS", "URL"], rows)


def _heard(endpoint: "Endpoint") -> str:
    return " ".join(endpoint.events) or "all events"


def _state(endpoint: "Endpoint") -> str:
    return "enabled" if endpoint.is_enabled else f"disabled ({endpoint.disabled_because})"


@app.command()
def remove(endpoint_id: EndpointId) -> None:
    """Remove an endpoint, and the log of its deliveries."""
    from app.services.webhooks.endpoints import remove_endpoint

    async def work(house: "House") -> None:
        async with house.db.begin() as connection:
            await remove_endpoint(connection, endpoint_id, actor=actor())

    run(work)
    typer.echo(f"Webhook endpoint {endpoint_id} is removed.")


@app.command()
def enable(endpoint_id: EndpointId) -> None:
    """Enable an endpoint again: what was pending is sent to it."""
    _set_enabled(endpoint_id, is_enabled=True)


@app.command()
def disable(endpoint_id: EndpointId) -> None:
    """Disable an endpoint: what happens meanwhile is not told to it."""
    _set_enabled(endpoint_id, is_enabled=False)


def _set_enabled(endpoint_id: int, *, is_enabled: bool) -> None:
    from app.services.webhooks.endpoints import change_endpoint

    async def work(house: "House") -> None:
        async with house.db.begin() as connection:
            await change_endpoint(
                connection,
                endpoint_id,
                is_enabled=is_enabled,
                allow_private=house.settings.webhooks_allow_private,
                actor=actor(),
            )

    run(work)
    typer.echo(f"Webhook endpoint {endpoint_id} is {'enabled' if is_enabled else 'disabled'}.")


@app.command("rotate-secret")
def rotate_secret(endpoint_id: EndpointId) -> None:
    """Make a new secret, printed once, alone on standard output. The former one is valid for another 24 hours."""
    from app.services.webhooks.endpoints import rotate_secret as rotate
    from app.shapes import rfc3339

    async def work(house: "House") -> tuple["Endpoint", str]:
        async with house.db.begin() as connection:
            return await rotate(connection, house.keyring, endpoint_id, actor=actor())

    endpoint, secret = run(work)
    until = rfc3339(endpoint.previous_secret_until)
    typer.echo(
        f"Webhook endpoint {endpoint_id}: messages carry a signature of the former secret, too, until {until}.",
        err=True,
    )
    typer.echo(secret)


@app.command()
def deliveries(
    endpoint: Annotated[int | None, typer.Option(min=1, max=GREATEST_ID, help="Only those to this endpoint.")] = None,
    status: Annotated[str | None, typer.Option(help="Only those pending, delivered or failed.")] = None,
    limit: Limit = LISTED,
    json: Json = False,
) -> None:
    """List the deliveries of the last 30 days, newest first; --json shows payload and every attempt."""
    from app.services.webhooks.deliveries import STATUSES, list_deliveries
    from app.shapes import delivery_shape, rfc3339

    if status is not None and status not in STATUSES:
        raise ValueError(f"--status must be one of: {', '.join(STATUSES)}")

    async def work(house: "House") -> "Sequence[LoggedDelivery]":
        async with house.db.read() as connection:
            return await list_deliveries(connection, endpoint_id=endpoint, status=status, limit=limit)

    found = run(work)
    note_end(found, limit)
    if json:
        print_json([delivery_shape(delivery).model_dump(mode="json") for delivery in found])
        return
    rows = [
        [
            str(one.id),
            str(one.endpoint_id),
            one.payload["type"],
            one.status,
            str(one.attempts),
            _last(one.history),
            rfc3339(one.next_attempt_at) or "",
        ]
        for one in found
    ]
    print_table(["ID", "ENDPOINT", "EVENT", "STATUS", "ATTEMPTS", "LAST ANSWER", "NEXT ATTEMPT"], rows)


def _last(history: list[dict[str, Any]]) -> str:
    if not history:
        return ""
    last = history[-1]
    return f"{last['outcome']} {last['status'] or ''}".strip()


@app.command()
def redeliver(delivery_id: Annotated[int, typer.Argument(min=1, max=GREATEST_ID, metavar="ID")]) -> None:
    """Send an event again, under the same webhook-id; a running server or worker does so at once."""
    from app.services.webhooks.deliveries import redeliver as again

    async def work(house: "House") -> "LoggedDelivery":
        async with house.db.begin() as connection:
            return await again(connection, delivery_id, actor=actor())

    delivery = run(work)
    typer.echo(
        f"Webhook delivery {delivery.id} ({delivery.message_id}) goes out again to endpoint {delivery.endpoint_id}."
    )


@app.command("test")
def rehearse(
    endpoint: Annotated[
        int | None, typer.Argument(min=1, max=GREATEST_ID, metavar="[ID]", help="Which endpoint; without it all.")
    ] = None,
    event: Annotated[str, typer.Option(help="The event whose example is sent.")] = "esim.provisioned",
    json: Json = False,
) -> None:
    """Send the example of an event, marked as a test, and show the receiver's answer; exit status 1 unless it is 2xx."""
    from app.services.webhooks.endpoints import list_endpoints
    from app.services.webhooks.events import read_events
    from app.services.webhooks.line import Line, Outcome
    from app.services.webhooks.rehearse import rehearse as send

    read_events([event])

    async def work(house: "House") -> list["Rehearsal"]:
        if endpoint is not None:
            chosen = [endpoint]
        else:
            async with house.db.read() as connection:
                chosen = [one.id for one in await list_endpoints(connection) if one.is_enabled]
        line = Line(allow_private=house.settings.webhooks_allow_private)
        try:
            return [await send(house, endpoint_id, event, line=line) for endpoint_id in chosen]
        finally:
            await line.close()

    rehearsals = run(work)
    if not rehearsals:
        raise ValueError("there is no enabled webhook endpoint; `tribi webhooks add URL` makes one")
    if json:
        print_json([_shown(rehearsal) for rehearsal in rehearsals])
    else:
        for one in rehearsals:
            said = f": {plain(one.answer.said)}" if one.answer.said else ""
            typer.echo(
                f"endpoint {one.endpoint_id}: {one.answer.outcome}, HTTP status {one.answer.status or 'none'}, "
                f"{one.answer.ms} ms, webhook-id {one.message_id}{said}"
            )
    if any(one.answer.outcome is not Outcome.DELIVERED for one in rehearsals):
        raise typer.Exit(1)


def _shown(rehearsal: "Rehearsal") -> dict[str, Any]:
    from json import loads

    answer = rehearsal.answer
    return {
        "endpoint_id": rehearsal.endpoint_id,
        "message_id": rehearsal.message_id,
        "payload": loads(rehearsal.body),
        "outcome": answer.outcome.value,
        "status": answer.status,
        "ms": answer.ms,
        "said": answer.said,
    }
