"""The `tribi` command. Its modules import what they need inside each command, so that `tribi --help` answers at once."""

import sys

import typer

from app.cli import catalogue, esims, keys, running

app = typer.Typer(
    name="tribi",
    help="Sells and provisions travel eSIMs: one paid order becomes exactly one eSIM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
running.register(app)
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(keys.app, name="keys")
app.add_typer(esims.app, name="esims")


def main() -> None:
    """The console script: any expected failure is one line on standard error and a status other than 0."""
    from app.errors import ConfigurationError, TribiError  # see the module's docstring

    try:
        app()
    except (ConfigurationError, TribiError, ValueError) as error:
        for line in str(error).splitlines() or [type(error).__name__]:
            typer.echo(f"tribi: {line}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(0)  # the reader of our output (`| head`) has seen enough
