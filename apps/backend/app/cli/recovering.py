"""`tribi backup`, `restore` and `recover`: before and after a disaster."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.office import Json, actor, database, print_json, print_table, run

if TYPE_CHECKING:
    from app.house import House
    from app.journal import Entry
    from app.services.orders.forgotten import Recovery


def register(app: typer.Typer) -> None:
    app.command()(backup)
    app.command()(restore)
    app.command()(recover)


def backup(file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False)]) -> None:
    """Write a dump of the database to FILE, while everything goes on. Customers' names and addresses are in it."""
    from app.backup import dump

    if file.exists():
        raise ValueError(f"{file} exists already: a backup never replaces another one")
    with database() as url:
        size = dump(url, file)
    typer.echo(
        f"{file} holds the database ({size / 1024**2:.1f} MiB). Keep ENCRYPTION_KEY (embedded: encryption.key in TRIBI_DATA_DIR) "
        "in another place: without it the dump's codes can't be read."
    )


def restore(file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)]) -> None:
    """Make an empty database what it was when FILE was written. Then run `tribi recover`."""
    from app.backup import restore as make_anew

    with database() as url:
        make_anew(url, file)
    typer.echo(
        "The database is as it was when the backup was made. What was sold since is not in it: run `tribi recover` where "
        "the intent journals are, before anything is sold."
    )


def recover(
    journal: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another machine's TRIBI_JOURNAL_DIR, or a copy of it; may be given several times.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Take over from the intent journal what a restored database has forgotten, then send and take orders again."""
    from app.journal import all_of
    from app.services.orders.forgotten import recover as take_over

    async def work(house: "House") -> "Recovery":
        folders = [house.settings.journal_dir, *(journal or [])]

        def entries() -> "Iterator[Entry]":
            for folder in folders:
                yield from all_of(folder / house.identity)

        return await take_over(house.db, entries(), actor=actor())

    recovery = run(work)
    if json:
        print_json(_shape(recovery))
    else:
        _tell(recovery)


def _shape(recovery: "Recovery") -> dict[str, Any]:
    from app.shapes import rfc3339

    return {
        "held_since": rfc3339(recovery.held_since),
        "forgotten": [
            {
                "order_reference": found.entry.reference,
                "attempt_id": found.entry.attempt_id,
                "sent_at": rfc3339(found.entry.opened_at),
                "status": found.status,
            }
            for found in recovery.found
        ],
        "next_order_id": recovery.next_order_id,
    }


def _tell(recovery: "Recovery") -> None:
    from app.shapes import rfc3339

    if not recovery.found:
        held = "" if recovery.held_since is None else " Orders are taken and sent again."
        typer.echo(f"The database knows all that this machine's journal knows.{held}")
        return
    rows = [
        [found.entry.reference, str(rfc3339(found.entry.opened_at)), found.status or "its order is gone"]
        for found in recovery.found
    ]
    print_table(["ORDER", "SENT", "STATUS"], rows)
    gone = sum(found.status is None for found in recovery.found)
    typer.echo(
        f"{len(rows)} orders had been sent that the database had forgotten. Those it still has are unknown now: "
        "`tribi esims list --status unknown`, then ask the provider and settle them."
    )
    if gone:
        typer.echo(
            f"{gone} of them are gone altogether. Sent again by the storefront with its Idempotency-Key, such an order stands "
            "there under its old number, unknown, and is not bought again."
        )
    typer.echo(f"New orders begin at {recovery.next_order_id}. Orders are taken and sent again.")
