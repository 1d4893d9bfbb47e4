"""What was run is on the record, so that a run that was stopped goes on, and no failure is hidden."""

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.__main__ import run_batches
from tests.chaos.outcome import Outcome, Tick, Verdict
from tests.chaos.report import Record
from tests.chaos.runs import Run


def a_record(**changes: object) -> Record:
    values: dict[str, object] = {
        "run": "G9", "seed": 7, "first": 0, "done": 10, "commit": "abc", "at": "2026-11-24T00:00:00+00:00", "seconds": 1.5,
        "counts": {"kill": 3}, "verdict": dict.fromkeys(("doubled", "lost", "invented", "stuck", "silent", "false_unknowns"), 0),
        "figures": {}, "failures": [],
    }  # fmt: skip
    return Record(**values | changes)  # type: ignore[arg-type]


def the_table(*records: Record) -> str:
    return report.table(records, {"G9": "mutated answers"}, {"G9": "answers"})


class Played:
    """A run whose batches do what they are told to."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[tuple[int, int]] = []
        self.run = Run("G9", "mutated answers", "answers", 100, 10, self._play)

    async def _play(self, folder: Path, *, n: int, seed: int, tick: Tick) -> Outcome:
        assert folder.name.startswith("tribi-g9-")
        self.asked.append((n, seed))
        tick(n)
        return self.outcomes.pop(0) if self.outcomes else Outcome(done=n)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    assert report.recorded(path) == []
    outcome = Outcome(10, Counter({"kill": 3}), Verdict(lost=1, false_unknowns=2), {"s": 1.5}, ["it failed"])
    written = report.record_of("G9", 7, 20, outcome, commit="abc+", at="2026-11-24", seconds=2.34)
    report.append(written, path)
    report.append(a_record(), path)
    assert report.recorded(path) == [written, a_record()]
    assert written.verdict["lost"] == 1
    assert not written.has_passed


def test_a_run_goes_on_behind_what_its_seed_has_on_record(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    for record in (a_record(done=10), a_record(first=10, done=10), a_record(seed=8), a_record(run="G1", done=90)):
        report.append(record, path)
    played = Played()
    assert run_batches(played.run, 45, 7, None, path) == 0
    assert [size for size, _ in played.asked] == [10, 10, 5]
    assert report.done_so_far(report.recorded(path), "G9", 7) == 45
    assert run_batches(played.run, 45, 7, None, path) == 0
    assert len(played.asked) == 3


def test_no_batch_has_another_ones_seed(tmp_path: Path) -> None:
    played = Played()
    run_batches(played.run, 50, 7, None, tmp_path / "runs.jsonl")
    run_batches(played.run, 50, 8, None, tmp_path / "runs.jsonl")
    assert len({seed for _, seed in played.asked}) == 10


def test_a_batch_is_repeated_to_the_letter_and_off_the_record(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    played = Played()
    run_batches(played.run, 30, 7, None, path)
    before = report.recorded(path)
    run_batches(played.run, 20, 7, 10, path)
    assert played.asked[-1] == played.asked[1]
    assert report.recorded(path) == before


@pytest.mark.parametrize(
    "failed", [Outcome(done=10, failures=["kill happened 2 times"]), Outcome(done=10, verdict=Verdict(doubled=1))]
)
def test_a_run_ends_with_its_first_failed_batch_which_is_on_the_record(tmp_path: Path, failed: Outcome) -> None:
    path = tmp_path / "runs.jsonl"
    played = Played(Outcome(done=10), failed)
    assert run_batches(played.run, 100, 7, None, path) == 1
    assert [record.has_passed for record in report.recorded(path)] == [True, False]


def test_a_batch_that_did_nothing_has_failed(tmp_path: Path) -> None:
    assert run_batches(Played(Outcome()).run, 100, 7, None, tmp_path / "runs.jsonl") == 1


def test_the_table_sums_a_runs_batches() -> None:
    table = the_table(
        a_record(figures={"seconds to the first answer": 0.5}),
        a_record(
            seed=8, commit="def+", done=2000, counts={"kill": 2, "stop": 1}, figures={"seconds to the first answer": 2}
        ),
    )
    assert table.splitlines()[2] == (
        "| G9: mutated answers | 2,010 answers | 2 | 6 | 0, 0, 0, 0, 0 | 0 | seconds to the first answer 0.5 to 2 | abc, def+ |"
    )


def test_the_table_hides_no_failed_batch() -> None:
    broken = a_record().verdict | {"lost": 2}
    table = the_table(a_record(), a_record(first=10, verdict=broken, failures=["kill happened 2 times"]))
    assert "**1 batches failed**" in table
    assert "- G9, seed 7, from 10, abc: 2 lost; kill happened 2 times" in table


def test_the_table_shows_five_failures_of_a_batch_and_how_many_more_there_are() -> None:
    line = the_table(a_record(failures=[f"order-{number} is lost" for number in range(7)])).splitlines()[-1]
    assert line.endswith("; order-4 is lost; and 2 more (reliability_runs.jsonl)")
    five = the_table(a_record(failures=[f"order-{number} is lost" for number in range(5)])).splitlines()[-1]
    assert five.endswith("; order-4 is lost")


def test_the_table_stands_between_the_pages_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- runs -->\nold\n<!-- /runs -->\nafter\n")
    report.render("new", page)
    report.render("newer", page)
    assert page.read_text() == "before\n<!-- runs -->\nnewer\n<!-- /runs -->\nafter\n"


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="markers"):
        report.render("new", page)
    assert page.read_text() == "nothing\n"


def test_the_table_names_who_noticed_what_was_broken_on_purpose() -> None:
    table = the_table(a_record(run="breaks", counts={"the order isn't locked: tests/proof/test_g05_crowds.py": 1}))
    assert "- the order isn't locked: tests/proof/test_g05_crowds.py" in table.splitlines()
