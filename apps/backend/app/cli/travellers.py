"""`tribi travellers`: what support does about somebody's sign-in."""

from typing import Annotated

import typer

from app.cli.office import actor, run

app = typer.Typer(help="Travellers who sign in.", no_args_is_help=True)


@app.callback()
def _a_group() -> None:
    """Travellers who sign in."""  # typer would take a lone command for the group itself


@app.command("sign-out")
def sign_out(
    address: Annotated[str, typer.Argument(help="The e-mail address that they signed in with.", metavar="ADDRESS")],
) -> None:
    """End all sessions of an address, at once: a telephone is lost, or somebody else has read their mail."""
    from app.house import House
    from app.services.accounts.sessions import sign_out_address
    from app.values.email_address import read_email

    known = read_email(address)

    async def work(house: House) -> int:
        async with house.db.begin() as connection:
            return await sign_out_address(connection, known, actor=actor())

    ended = run(work)
    typer.echo(
        f"{ended} session{'' if ended == 1 else 's'} ended. Whoever can read mail to this address can sign in again."
    )
