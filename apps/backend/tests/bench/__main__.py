"""`make bench` and `make bench-quick`: measures, tells, records; exit status 1 where a target is missed, or something got worse."""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from tests.bench import chart, pace, report
from tests.bench.activations import Between, activations, processes
from tests.bench.answers import answers
from tests.bench.compare import worse
from tests.bench.growing import grown, put_into
from tests.bench.machine import Quiet, describe
from tests.bench.pace import Pace
from tests.bench.results import RECORD, Measured, Record, read_record
from tests.bench.shop import Stage, a_stage, file_system_of
from tests.bench.starting import demo, starts
from tests.bench.waiting import a_thousand_at_once, five_thousand_waiting
from tests.chaos.report import commit

_Group = Callable[[Stage, Pace, Between], Awaitable[Measured]]

GROUPS: dict[str, tuple[_Group, ...]] = {
    "P1": (activations,),  # and P8
    "P2": (answers,),
    "P3": (a_thousand_at_once,),
    "P4": (five_thousand_waiting,),
    "P6": (processes,),
    "P7": (starts, demo),
}
_GROWTH = "P5"
"""On shops that were made beforehand: `growing.py`."""

_QUICK: dict[str, tuple[_Group, ...]] = {"P1": (activations,), "P2": (answers,), "P7": (starts,)}

_WRITTEN = (RECORD, report.PAGE, chart.CHART)


def main() -> int:
    said = _arguments()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a text file
    console = Console(width=None if Console().is_terminal else 132)
    groups = _QUICK if said.quick else GROUPS
    chosen = [group for name in said.only or groups for group in groups.get(name, ())]
    at = pace.QUICK if said.quick else pace.FULL
    if said.seconds:
        at = replace(at, seconds=said.seconds, warm_s=min(at.warm_s, said.seconds), try_s=min(at.try_s, said.seconds))
    if said.times:
        at = replace(at, repetitions=said.times)
    is_whole = not (said.quick or said.only or said.seconds or said.times)
    record = asyncio.run(_measure(chosen, at, said.crowds, console))
    last = read_record()
    is_growth = last is not None and said.only == [_GROWTH] and not said.quick
    if is_whole and not said.crowds:
        record = put_into(record, last)
    elif last is not None and is_growth:
        record = put_into(last, record)
    report.show(record, console)
    if said.quick:
        return _compared(record, last, console)
    if is_whole or is_growth:
        record.write()
        report.render(report.markdown(record))
        chart.draw(record)
    else:
        console.print("Not recorded: only all of it at its full length is, or P5 by itself.")
    return 0 if all(target.is_met for target in record.targets) else 1


async def _measure(groups: Collection[_Group], at: Pace, crowds: Sequence[Path], console: Console) -> Record:
    quiet, made, begun = Quiet(), Measured(), time.monotonic()
    async with a_stage() as stage:
        quiet.count_in(stage.postgres_pid)
        for group in groups:
            console.print(f"{time.monotonic() - begun:5.0f} s  {group.__name__.replace('_', ' ')}")
            made += await group(stage, at, quiet.look)
        machine = await describe(file_system_of(stage.folder))
    if crowds:
        made += await grown(*crowds)
    console.print(f"{time.monotonic() - begun:5.0f} s  done")
    made.targets.sort(key=lambda target: target.key)
    return Record(
        commit(_WRITTEN), f"{datetime.now(UTC):%Y-%m-%d}", machine, quiet.complaints(), made.targets, made.figures
    )


def _compared(record: Record, then: Record | None, console: Console) -> int:
    if then is None:
        console.print(f"Nothing to compare with: there is no {RECORD.name}; `make bench` writes it.")
        return 0
    found = list(worse(record, then))
    for line in found:
        console.print(f"[red]worse:[/] {line}")
    console.print(f"Compared with {then.commit} of {then.at}: {'worse' if found else 'nothing is clearly worse'}.")
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument(
        "--quick", action="store_true", help="P1, P2, P8 and some of P7 in short, beside what was last recorded"
    )
    parser.add_argument("--only", nargs="*", choices=[*GROUPS, _GROWTH], help="P1 P2 …; P8 comes with P1")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--times", type=int, help="repetitions")
    parser.add_argument(
        "--crowds", nargs=2, type=Path, default=(), metavar=("SMALL", "LARGE"),
        help="measure P5, too, on these two (python -m tests.bench.crowd); without them it is as last recorded",
    )  # fmt: skip
    said = parser.parse_args()
    if _GROWTH in (said.only or ()) and not said.crowds:
        parser.error(f"{_GROWTH} is measured on two shops: --crowds SMALL LARGE")
    return said


if __name__ == "__main__":
    sys.exit(main())
