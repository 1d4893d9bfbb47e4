"""`tribi sandbox`: ConnectedYou on one's own machine."""

from pathlib import Path
from typing import Annotated

import typer

from app.sandbox.behaviours import ONCE, TABLE, Repeats

_WIDTH = 31

_HELP = f"""
Stand in for ConnectedYou, to build a storefront without an account, a database or money.

It takes orders as the draft contract describes them, from any API key (but none that begins with "wrong") and partner id,
and prints at its start what to put into .env. Its page shows the ledger and sends webhooks; docs/sandbox.md tells more.

Plan codes that misbehave (with {ONCE} behind them only an order's first request does); all others are delivered at once:

\b
""" + "\n".join(f"{behaviour.usage:<{_WIDTH}}{behaviour.does}" for behaviour in TABLE.values())


def register(app: typer.Typer) -> None:
    app.command(help=_HELP)(sandbox)


def sandbox(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines and containers.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 9000,
    ledger: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the ledger in this file; without it, it is in memory.")
    ] = None,
    repeats: Annotated[
        Repeats,
        typer.Option(
            help="What a second order under one reference does, which the draft leaves open: buys another eSIM, "
            "gets the first one's answer, or is refused (409)."
        ),
    ] = Repeats.BILL,
    webhook_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where webhooks go that name no address.")
    ] = None,
    webhook_header: Annotated[
        str, typer.Option(metavar="NAME", help="The header that carries their secret.")
    ] = "x-webhook-secret",
    webhook_secret: Annotated[str, typer.Option(metavar="TEXT", help="That secret.")] = "sandbox-secret",  # noqa: S107 - made up
) -> None:
    from app.sandbox.server import Options, run

    run(Options(host, port, repeats, ledger, webhook_url, webhook_header, webhook_secret))
