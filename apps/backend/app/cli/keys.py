"""`tribi keys`: service keys for storefronts."""

from typing import Annotated

import typer

from app.cli.office import GREATEST_ID, Json, actor, print_json, print_table, run

app = typer.Typer(help="Service keys: how a storefront signs its calls.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people.")],
    scope: Annotated[
        list[str], typer.Option(help="What it may do: orders, esims, webhooks. May be given several times.")
    ],
) -> None:
    """Make a key. Its secret is printed once, alone on standard output."""
    from app.house import House
    from app.services.accounts.keys import KeyListing, create_key

    async def work(house: House) -> tuple[KeyListing, str]:
        async with house.db.begin() as connection:
            return await create_key(connection, name, scope, actor=actor())

    key, secret = run(work)
    typer.echo(
        f"Key {key.id} ({key.name}): {', '.join(key.scopes)}. Keep the secret: it can't be shown again.", err=True
    )
    typer.echo(secret)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the keys, revoked ones included; their secrets are kept nowhere."""
    from dataclasses import asdict

    from app.house import House
    from app.services.accounts.keys import KeyListing, list_keys
    from app.shapes import rfc3339

    async def work(house: House) -> list[KeyListing]:
        async with house.db.read() as connection:
            return await list_keys(connection)

    keys = run(work)
    if json:
        times = ("created_at", "last_used_at", "revoked_at")
        print_json([asdict(key) | {name: rfc3339(getattr(key, name)) for name in times} for key in keys])
        return
    rows = [
        [
            str(key.id),
            key.name,
            " ".join(key.scopes),
            rfc3339(key.created_at) or "",
            rfc3339(key.last_used_at) or "never",
            rfc3339(key.revoked_at) or "",
        ]
        for key in keys
    ]
    print_table(["ID", "NAME", "SCOPES", "CREATED", "LAST USED", "REVOKED"], rows)


@app.command()
def revoke(key_id: Annotated[int, typer.Argument(min=1, max=GREATEST_ID, metavar="ID")]) -> None:
    """Revoke a key, at once and for good."""
    from app.house import House
    from app.services.accounts.keys import KeyListing, revoke_key

    async def work(house: House) -> KeyListing:
        async with house.db.begin() as connection:
            return await revoke_key(connection, key_id, actor=actor())

    key = run(work)
    typer.echo(f"Key {key.id} ({key.name}) is revoked.")
