"""`tribi recover`: after the database was set back to an older state."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.office import Json, actor, print_json, print_table, run

if TYPE_CHECKING:
    from app.house import House
    from app.journal import Entry
    from app.services.orders.forgotten import Recovery


def register(app: typer.Typer) -> None:
    app.command()(recover)


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
