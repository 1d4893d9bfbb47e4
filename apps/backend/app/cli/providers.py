"""`tribi providers`: whether orders go out to the eSIM provider, and the switch that stops them."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import provider_events
from app.cli.office import Json, actor, print_json, print_table, run

if TYPE_CHECKING:
    from app.house import House
    from app.services.esims.pause import Obstacle
    from app.services.esims.spend import Caps, Spent

app = typer.Typer(
    help="eSIM providers: whether orders go out to them; stop that, and let it go on; and what they tell.",
    no_args_is_help=True,
)
provider_events.register(app)

Name = Annotated[str, typer.Argument(metavar="PROVIDER", help="connected_you or local.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """List the providers: which is configured, whether orders go out, what keeps them, and how far the spend caps are used up."""

    async def work(house: "House") -> tuple[list[dict[str, Any]], list[list[str]], str]:
        from app.services.esim_providers import get_esim_provider, provider_names
        from app.services.esims.circuit import Circuit
        from app.services.esims.pause import outlook
        from app.services.esims.spend import Caps, caps_of, spent

        settings, provider = house.settings, get_esim_provider(house.settings)
        circuit = Circuit(house.db, provider, settings.provider_circuit_failures)
        caps = caps_of(settings, is_live=provider.is_live)
        shapes, rows = [], []
        async with house.db.read() as connection:
            used = await spent(connection, caps) if provider.is_live else None
            for name in provider_names():
                is_this = name == provider.name
                ahead = await outlook(connection, name, circuit if is_this else None, caps if is_this else None)
                mode = ("live" if provider.is_live else "test") if is_this else "not configured"
                shapes.append(
                    {
                        "name": name,
                        "is_configured": is_this,
                        "is_live": is_this and provider.is_live,
                        "paused": bool(ahead.obstacles),
                        "obstacles": [_obstacle_shape(obstacle) for obstacle in ahead.obstacles],
                        "live_esims": _spent_shape(used, caps or Caps(0, 0)) if is_this and used else None,
                    }
                )
                free = [] if mode == "not configured" or ahead.obstacles else ["go out"]
                rows += [[name, mode, said] for said in [*map(_sentence, ahead.obstacles), *free] or [""]]
        return shapes, rows, _cap_line(used, caps or Caps(0, 0))

    shapes, rows, cap_line = run(work)
    if json:
        print_json(shapes)
        return
    print_table(["PROVIDER", "MODE", "ORDERS"], rows)
    if cap_line:
        typer.echo(cap_line)


@app.command()
def pause(
    provider: Name,
    reason: Annotated[str, typer.Option(help="Why; it stays on the audit trail.")],
) -> None:
    """Send nothing to a provider any more, by any process, until `resume`. Orders keep, and activations answer 503."""
    from app.services.esims.settlements import is_reason

    name = _named(provider)
    if not is_reason(reason):
        raise ValueError("--reason must say why, in one line of text")

    async def work(house: "House") -> tuple[int, str]:
        from app.services.esims.pause import pause as pause_it

        async with house.db.begin() as connection:
            under_way = await pause_it(connection, name, reason=reason, actor=actor())
        return under_way, house.settings.esim_provider

    under_way, configured = run(work)
    going_on = f" Calls under way, which go on: {under_way}." if under_way else ""
    typer.echo(f"{name} is paused: nothing is sent to it.{going_on}")
    if name != configured:
        typer.echo(f"Mind that ESIM_PROVIDER is {configured} here.", err=True)


@app.command()
def resume(provider: Name) -> None:
    """End a pause. What the circuit or a spend cap keeps back stays kept back."""
    name = _named(provider)

    async def work(house: "House") -> bool:
        from app.services.esims.pause import resume as resume_it

        async with house.db.begin() as connection:
            return await resume_it(connection, name, actor=actor())

    was_paused = run(work)
    typer.echo(f"{name} is resumed." if was_paused else f"{name} was not paused by a person.")


def _named(text: str) -> str:
    from app.services.esim_providers import provider_names

    name = text.strip().upper().replace("-", "_")
    if name not in provider_names():
        known = ", ".join(known.lower() for known in provider_names())
        raise ValueError(f"there is no provider of that name; there are: {known}")
    return name


def _sentence(obstacle: "Obstacle") -> str:
    from app.shapes import rfc3339

    since, until = rfc3339(obstacle.since), rfc3339(obstacle.until)
    match obstacle.by.value:
        case "held":
            return f"held since {since}, when the database was found to be older than the intent journal: see `tribi recover`"
        case "person":
            return f"paused by {obstacle.actor} since {since}: {obstacle.reason}"
        case "circuit":
            return f"paused by the circuit since {since} ({obstacle.reason}); a probe may go at {until}"
        case _:
            return f"paused by the cap {obstacle.reason} until {until}"


def _obstacle_shape(obstacle: "Obstacle") -> dict[str, str | None]:
    from app.shapes import rfc3339

    return {
        "by": obstacle.by.value,
        "since": rfc3339(obstacle.since),
        "until": rfc3339(obstacle.until),
        "reason": obstacle.reason,
        "actor": obstacle.actor,
    }


def _spent_shape(used: "Spent", caps: "Caps") -> dict[str, int]:
    return {
        "last_hour": used.last_hour,
        "per_hour": caps.per_hour,
        "last_day": used.last_day,
        "per_day": caps.per_day,
    }


def _cap_line(used: "Spent | None", caps: "Caps") -> str:
    if used is None:
        return ""
    hour, day = (f"of {cap}" if cap else "(no cap)" for cap in (caps.per_hour, caps.per_day))
    return f"Live eSIMs in the last hour: {used.last_hour} {hour}; in the last day: {used.last_day} {day}."
