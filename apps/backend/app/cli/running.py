"""`tribi serve`, `worker` and `migrate`: the parts that run."""

import sys
from typing import Annotated

import typer

from app.cli.office import database


def register(app: typer.Typer) -> None:
    app.command()(serve)
    app.command()(worker)
    app.command()(migrate)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the work.")] = 1,
) -> None:
    """Serve the API, the pages and the background jobs; with the embedded database it migrates by itself."""
    from app.server import serve as run_server

    sys.exit(run_server(host, port, workers))


def worker() -> None:
    """Work on background jobs and the recovery sweep only, for installations with several machines."""
    from app.jobs.process import work_until_asked_to_end

    sys.exit(work_until_asked_to_end())


def migrate() -> None:
    """Bring the database's schema up to date."""
    from app.schema import migrate as bring_up_to_date

    with database() as url:
        revision = bring_up_to_date(url)
    typer.echo(f"The database is at revision {revision}.")
