"""What has been run: one line of JSON a batch in docs/reliability_runs.jsonl, and the table in docs/reliability.md made of them."""

import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from app.settings import BACKEND_DIR
from tests.chaos.outcome import PROMISES, Outcome

ROOT = BACKEND_DIR.parents[1]
RECORDS = ROOT / "docs" / "reliability_runs.jsonl"
PAGE = ROOT / "docs" / "reliability.md"

_WRITTEN_BY_RUNS = (RECORDS, PAGE)
_SHOWN = 5
"""So many of a batch's failures stand in the table; all of them are in the record."""

DIRTY = "+"
"""Behind a commit: the tree held changes that it doesn't."""


@dataclass(frozen=True)
class Record:
    """One batch: `done` units of a run from number `first` on. `at` is when it began, in UTC."""

    run: str
    seed: int
    first: int
    done: int
    commit: str
    at: str
    seconds: float
    counts: dict[str, int]
    verdict: dict[str, int]
    figures: dict[str, float]
    failures: list[str]

    @property
    def has_passed(self) -> bool:
        return not self.failures and not any(self.verdict[name] for name in PROMISES)

    @property
    def complaints(self) -> list[str]:
        broken = [f"{self.verdict[name]} {name}" for name in PROMISES if self.verdict[name]]
        return [*broken, *self.failures]


def recorded(path: Path = RECORDS) -> list[Record]:
    if not path.exists():
        return []
    return [Record(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def record_of(run: str, seed: int, first: int, outcome: Outcome, *, commit: str, at: str, seconds: float) -> Record:
    verdict = {name: getattr(outcome.verdict, name) for name in (*PROMISES, "false_unknowns")}
    counts, figures = dict(sorted(outcome.counts.items())), dict(sorted(outcome.figures.items()))
    return Record(
        run, seed, first, outcome.done, commit, at, round(seconds, 1), counts, verdict, figures, outcome.failures
    )


def append(record: Record, path: Path = RECORDS) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")


def done_so_far(records: Iterable[Record], run: str, seed: int) -> int:
    """Units of a run that needn't be done again under this seed."""
    return max(
        (record.first + record.done for record in records if (record.run, record.seed) == (run, seed)), default=0
    )


def seed_of_batch(seed: int, first: int) -> int:
    """Each batch has a seed of its own, so that a run that goes on doesn't do the same again."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{first}".encode()).digest()[:6])


def commit(written: Sequence[Path] = _WRITTEN_BY_RUNS) -> str:
    """The present one, marked where the tree holds other changes than the runs' own: those of the files that they write."""
    without = [f":(exclude,top){path.relative_to(ROOT)}" for path in written]
    changes = _git("status", "--porcelain", "--", ":/", *without)
    return _git("rev-parse", "--short=10", "HEAD") + (DIRTY if changes else "")


def _git(*arguments: str) -> str:
    command = ["git", "-c", f"safe.directory={ROOT}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


# --- the table


def table(records: Sequence[Record], titles: dict[str, str], units: dict[str, str]) -> str:
    """
    In Markdown: a row for each run, a line for each batch that failed, and for each rule that was last broken on purpose.

    Args:
        titles, units: by a run's name.
    """
    names = [name for name in titles if any(record.run == name for record in records)]
    lines = [
        "| run | done | seeds | faults and events | doubled, lost, invented, stuck, silent | false unknowns | figures | commits |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(name, titles[name], units[name], [r for r in records if r.run == name]) for name in names),
    ]
    failed = [record for record in records if not record.has_passed]
    if failed:
        lines += ["", f"Batches that failed ({len(failed)} of {len(records)}):", ""]
        lines += [
            f"- {record.run}, seed {record.seed}, from {record.first}, {record.commit}: {_first(record.complaints)}"
            for record in failed
        ]
    if broken := [record for record in records if record.run == "breaks"]:
        lines += ["", "Broken on purpose (the rule, and the first test that noticed):", ""]
        lines += [f"- {rule_and_test}" for rule_and_test in broken[-1].counts]
    return "\n".join(lines)


def _first(complaints: Sequence[str]) -> str:
    shown, more = complaints[:_SHOWN], len(complaints) - _SHOWN
    return "; ".join([*shown, *([f"and {more} more ({RECORDS.name})"] if more > 0 else [])])


def _row(name: str, title: str, unit: str, records: Sequence[Record]) -> str:
    verdict: Counter[str] = Counter()
    for record in records:
        verdict.update(record.verdict)
    failed = sum(not record.has_passed for record in records)
    events = sum(sum(record.counts.values()) for record in records)
    done = f"{sum(record.done for record in records):,} {unit}" + (f", **{failed} batches failed**" if failed else "")
    cells = (
        f"{name}: {title}",
        done,
        str(len({record.seed for record in records})),
        f"{events:,}",
        ", ".join(str(verdict[promise]) for promise in PROMISES),
        str(verdict["false_unknowns"]),
        "; ".join(_figures(records)) or "-",
        ", ".join(dict.fromkeys(record.commit for record in records)),
    )
    return f"| {' | '.join(cells)} |"


def _figures(records: Sequence[Record]) -> list[str]:
    """Each with the least and the most that a batch had."""
    names = dict.fromkeys(name for record in records for name in record.figures)
    ranges = {name: [record.figures[name] for record in records if name in record.figures] for name in names}
    return [
        f"{name} {min(values):g}" + (f" to {max(values):g}" if min(values) != max(values) else "")
        for name, values in ranges.items()
    ]


def render(made: str, page: Path = PAGE, marker: str = "runs") -> None:
    """
    Puts what was made between the page's markers.

    Raises:
        ValueError: it has none.
    """
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    before, found_begin, rest = page.read_text("utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{page.name} lacks the markers {begin} and {end}")
    page.write_text(f"{before}{begin}\n{made}\n{end}{after}", "utf-8")
