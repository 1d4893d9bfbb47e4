"""`tribi serve`, `worker` and `migrate`: the parts that run."""

import sys
from typing import Annotated

import typer


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
    from app.errors import ConfigurationError
    from app.postgres import EmbeddedPostgresError, hold
    from app.schema import head
    from app.schema import migrate as bring_up_to_date
    from app.settings import load_settings

    settings = load_settings()
    if settings.database_url is not None:
        bring_up_to_date(settings.database_url.get_secret_value())
    else:
        try:
            with hold(settings.tribi_data_dir) as server:
                bring_up_to_date(server.url)
        except EmbeddedPostgresError as error:
            raise ConfigurationError(str(error)) from error
    typer.echo(f"The database is at revision {head()}.")
