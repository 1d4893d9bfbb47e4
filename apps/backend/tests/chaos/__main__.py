"""`make chaos`: runs of any size, batch by batch, each on the record; exit status 1 when one fails."""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.chaos import report
from tests.chaos.outcome import Outcome, Tick, Verdict
from tests.chaos.runs import RUNS, Run

_PLAIN_EVERY_S = 15
"""How often a line tells how far it is, where there is no terminal."""


def _say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("run", nargs="?", help="G1, G2, … or report; none lists them")
    parser.add_argument("--n", type=int, help="how many in all; what is on the record counts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, help="do the batch from this number on again, off the record")
    return parser.parse_args()


def _list() -> None:
    records = report.recorded()
    _say("make chaos RUN=G2 N=100 SEED=7     goes on where it was stopped; RUN=report makes the table")
    for run in RUNS.values():
        done = sum(record.done for record in records if record.run == run.name)
        _say(f"  {run.name:6} {run.title}: {done:,} of {run.target:,} {run.unit} on the record")


def _make_table() -> None:
    titles = {run.name: run.title for run in RUNS.values()}
    units = {run.name: run.unit for run in RUNS.values()}
    report.render(report.table(report.recorded(), titles, units))


@contextmanager
def _progress(run: Run, first: int, n: int) -> Iterator[Tick]:
    if Console().is_terminal:
        columns = (TextColumn(run.name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns) as progress:
            task = progress.add_task(run.name, total=n, completed=first)
            yield lambda more: progress.advance(task, more)
        return
    done, told_at = first, time.monotonic()

    def tick(more: int) -> None:
        nonlocal done, told_at
        done += more
        if time.monotonic() > told_at + _PLAIN_EVERY_S:
            told_at = time.monotonic()
            _say(f"  {done:,} of {n:,} {run.unit}")

    yield tick


def _tell(run: Run, outcome: Outcome, counts: Counter[str]) -> None:
    for name in sorted(counts):
        _say(f"  {counts[name]:7,}  {name}")
    for name, value in sorted(outcome.figures.items()):
        _say(f"  {value:7g}  {name}")
    for sentence in (*outcome.verdict.cases[:20], *outcome.failures):
        _say(f"  ! {sentence}")


def _batch(run: Run, seed: int, first: int, size: int, tick: Tick, commit: str, records: Path | None) -> Outcome:
    at, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"tribi-{run.name.lower()}-"))
    outcome: Outcome = asyncio.run(_awaited(run, folder, size, report.seed_of_batch(seed, first), tick))
    if outcome.done == 0 and not outcome.failures:
        outcome.failures.append("nothing was done")
    record = report.record_of(run.name, seed, first, outcome, commit=commit, at=at, seconds=time.monotonic() - begun)
    if records is not None:
        report.append(record, records)
    if outcome.has_passed:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _say(f"  its logs are in {folder}")
    return outcome


async def _awaited(run: Run, folder: Path, size: int, seed: int, tick: Tick) -> Outcome:
    return await run.function(folder, n=size, seed=seed, tick=tick)


def run_batches(run: Run, n: int, seed: int, first: int | None, records: Path = report.RECORDS) -> int:
    """
    Args:
        n: of the run's unit, in all; what is on record is done.
        first: does the batch from here on again, off the record; None goes on.

    Returns:
        The exit status.
    """
    at = report.done_so_far(report.recorded(records), run.name, seed) if first is None else first
    commit = report.commit()
    _say(f"{run.name}: {run.title}; seed {seed}, commit {commit}, {at:,} of {n:,} {run.unit} done already")
    counts: Counter[str] = Counter()
    verdict, has_passed = Verdict(), True
    with _progress(run, at, n) as tick:
        while at < n and has_passed:
            size = min(run.batch, n - at)
            outcome = _batch(run, seed, at, size, tick, commit, records if first is None else None)
            counts.update(outcome.counts)
            verdict += outcome.verdict
            has_passed = outcome.has_passed
            _tell(run, outcome, counts)
            _say(f"  {outcome.verdict}")
            _say(f"  to repeat this batch: make chaos RUN={run.name} N={at + size} SEED={seed} FIRST={at}")
            at += outcome.done
    _say(f"{run.name}: {'passed' if has_passed else 'FAILED'}; {verdict}")
    _say(f"make chaos RUN={run.name} N={n} SEED={seed}")
    return 0 if has_passed else 1


def main() -> int:
    said = _arguments()
    if said.run is None:
        _list()
    elif said.run == "report":
        _make_table()
    elif (run := RUNS.get(said.run.lower())) is None:
        _say(f"no run is called {said.run}; `make chaos` lists them")
        return 2
    else:
        return run_batches(run, said.n or run.target, said.seed, said.first)
    return 0


if __name__ == "__main__":
    sys.exit(main())
