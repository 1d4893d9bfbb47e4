"""`tribi secrets`: the encryption keys, and sealing everything anew under another one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.office import Json, actor, print_json, print_table, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.house import House
    from app.services.secrets.rotate import KeyStanding, Progress, Rotation

app = typer.Typer(help="Encryption keys: what is sealed with which, and sealing it anew.", no_args_is_help=True)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the encryption keys by their names: which one seals, how much each has sealed, and which may be removed."""

    async def work(house: "House") -> "tuple[KeyStanding, ...]":
        from app.services.secrets.rotate import standing_of_keys

        return await standing_of_keys(house)

    keys = run(work)
    if json:
        print_json([_key_shape(key) for key in keys])
        return
    _show(keys)


@app.command()
def rotate(
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """
    Seal everything anew under the first key of ENCRYPTION_KEY, while servers and workers go on.

    Before it, start all of them with the new key in front of the old one. May be stopped and run again, also twice at once. It says
    which keys may be removed then; exit status 1 while an old one is still needed.
    """

    async def work(house: "House") -> "Rotation":
        from app.services.secrets.rotate import rotate as rotate_keys

        with _progress_bar() as on_progress:
            return await rotate_keys(
                house,
                actor=actor(),
                on_progress=on_progress,
                on_wait=lambda: typer.echo(
                    "Waiting for up to a minute, to see whether a process still seals with an old key.", err=True
                ),
            )

    rotation = run(work)
    rows = sum(rotation.sealed_anew.values())
    if json:
        print_json(
            {
                "rows": rotation.sealed_anew,
                "busy": rotation.busy,
                "unreadable": list(rotation.unreadable),
                "keys": [_key_shape(key) for key in rotation.keys],
                "is_complete": rotation.is_complete,
            }
        )
    else:
        typer.echo(f"Sealed anew: {rows} rows.")
        _show(rotation.keys)
    if not rotation.is_complete:
        raise ValueError("\n".join(_why_not(rotation)))
    if not json:
        removable = [str(key.position) for key in rotation.keys if key.may_be_removed]
        typer.echo(
            f"Nothing needs key {' and key '.join(removable)} of ENCRYPTION_KEY any more: take it out, and start anew."
            if removable
            else "ENCRYPTION_KEY holds one key, and everything is sealed with it."
        )


def _why_not(rotation: "Rotation") -> "Iterator[str]":
    yield from rotation.unreadable
    if rotation.busy:
        yield f"{rotation.busy} rows were in use by others each time: run it again"
    for key in rotation.keys:
        if key.position == 1 or key.may_be_removed:
            continue
        if key.in_use:
            yield (
                f"key {key.key_id}: a server, worker or command still seals with it, as it was started with that key in front. "
                "Start all of them with the new key in front, then run this again"
            )
        elif key.values:
            yield f"key {key.key_id}: {key.values} values are still sealed with it. Run this again"
        else:
            yield f"key {key.key_id}: it was in use until a moment ago. Run this again"


def _show(keys: "tuple[KeyStanding, ...]") -> None:
    rows = [
        [
            "" if key.position is None else str(key.position),
            key.key_id,
            str(key.values),
            "in use" if key.in_use else "",
            "seals" if key.position == 1 else "may be removed" if key.may_be_removed else "is needed",
        ]
        for key in keys
    ]
    print_table(["PLACE", "KEY", "SEALED VALUES", "PROCESSES", ""], rows)


def _key_shape(key: "KeyStanding") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(key)


@contextmanager
def _progress_bar() -> "Iterator[Callable[[Progress], None]]":
    """On a terminal; elsewhere nothing is shown."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("Sealing anew"), BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        yield lambda progress: bar.update(task, completed=progress.done, total=max(progress.total, progress.done))
