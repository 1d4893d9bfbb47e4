"""The `tribi` command. Its modules import what they need inside each command, so that `tribi --help` answers at once."""

import os
import sys
from io import TextIOWrapper
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from app.cli import (
    catalogue,
    doctor,
    esims,
    keys,
    providers,
    recovering,
    running,
    sandbox,
    secrets,
    travellers,
    webhooks,
)

app = typer.Typer(
    name="tribi",
    help="Sells and provisions travel eSIMs: one paid order becomes exactly one eSIM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
running.register(app)
recovering.register(app)
doctor.register(app)
sandbox.register(app)
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(keys.app, name="keys")
app.add_typer(esims.app, name="esims")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(providers.app, name="providers")
app.add_typer(secrets.app, name="secrets")
app.add_typer(travellers.app, name="travellers")


def _explain(error: TyperException) -> NoReturn:
    """A command line that isn't understood: one line, or the help where nothing but that was asked for."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
    else:
        context = getattr(error, "ctx", None)
        usage = context.command_path if context else "tribi"
        typer.echo(f"tribi: {error.format_message()} (see `{usage} --help`)", err=True)
    sys.exit(error.exit_code)


def main() -> None:
    """The console script: a failure is one line on standard error (one a mistake) and a status other than 0, never a traceback."""
    from app.errors import ConfigurationError, TribiError  # see the module's docstring

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal can't spell is no reason to fail
    try:
        sys.exit(app(prog_name="tribi", standalone_mode=False))
    except TyperException as error:
        _explain(error)
    except typer.Abort:
        typer.echo("tribi: stopped", err=True)
        sys.exit(130)
    except (ConfigurationError, TribiError, ValueError) as error:
        for line in str(error).splitlines() or [type(error).__name__]:
            typer.echo(f"tribi: {line}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(0)  # the reader of our output (`| head`) has seen enough
    except Exception as error:
        if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        typer.echo(f"tribi: this is a bug, please report it (LOG_LEVEL=DEBUG shows the place): {reason}", err=True)
        sys.exit(1)
