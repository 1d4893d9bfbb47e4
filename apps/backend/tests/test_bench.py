"""What `make bench` makes of what it measured: the yardstick's script, the readings, the tables, what got worse."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from rich.console import Console

from tests.bench import chart, growing, report
from tests.bench.compare import worse
from tests.bench.cost import Cost
from tests.bench.load import read_wrk
from tests.bench.pgbench import EXPECTED, QUEUE, Numbers, UnexpectedStatements, read_pgbench, script_of
from tests.bench.results import Measured, Record, Target, figure, read_record
from tests.bench.statements import Statement, statement_of, transactions

NUMBERS = Numbers(order_id=101, profile_id=201, attempt_id=301)
_LOCK = "SELECT orders.status,\n esim_profiles.id AS profile_id, nextval($1) AS new_attempt_id FROM orders WHERE id = $2 FOR UPDATE"


def _said(text: str, *parameters: str | None) -> Statement:
    return Statement(1, text, parameters)


def an_activation() -> list[Statement]:
    return [
        _said("SELECT id FROM service_keys WHERE secret_hash = $1", "\\xab"),
        _said("BEGIN ISOLATION LEVEL READ COMMITTED"),
        _said(_LOCK, "a_seq", "101"),
        _said("SELECT * FROM provider_states WHERE provider = $1", "CONNECTED_YOU"),
        _said(
            "WITH o AS (INSERT INTO provisioning_attempts VALUES ($1, $2, $3)) INSERT INTO audit_log VALUES ($4::JSONB, $3)",
            "301", "201", "order-101", '{"attempt_id": 301, "of": 1013}',
        ),
        _said("COMMIT"),
        _said("BEGIN"),
        _said("SELECT status FROM esim_profiles WHERE id = $1 FOR UPDATE", "201"),
        _said("UPDATE esim_profiles SET a = $1, b = $2, c = $3, d = $4, e = $5",
            "\\x" + "0f" * 16, "\\x" + "1f" * 16, None, "\\x" + "2f" * 20, "",
        ),
        _said("WITH c AS (UPDATE provisioning_attempts SET x = $1) INSERT INTO audit_log VALUES ($2)", "301", "esims.provisioned"),
        _said("SELECT procrastinate_defer_jobs_v1(ARRAY[ROW($1, $2)])", "esims.provisioned", "esims.provisioned"),
        _said("COMMIT"),
    ]  # fmt: skip


def test_the_yardstick_does_what_an_activation_does() -> None:
    script = script_of(an_activation(), NUMBERS)
    lines = script.text.splitlines()
    assert "service_keys" not in script.text
    assert [line for line in lines if line in {"BEGIN;", "COMMIT;"}] == ["BEGIN;", "COMMIT;"] * 2
    assert lines[3].endswith(r"WHERE id = :order_id FOR UPDATE \gset")
    [written] = [line for line in lines if "INSERT INTO provisioning_attempts" in line]
    names = {value: name for name, value in script.constants.items()}
    reference = f"(:{names['order-']}::text || :order_id::text)"
    details = f"(:{names[chr(123) + chr(34) + 'attempt_id' + chr(34) + ': ']}::text || :new_attempt_id::text"
    assert f"VALUES (:new_attempt_id, :profile_id, {reference})" in written
    assert details in written
    assert ', "of": 1013}' in names  # a number that only begins as ours is nobody's
    assert (
        len({line for line in lines if "decode(md5('1/' || :order_id::text), 'hex')" in line and "'2/'" in line}) == 1
    )
    assert "c = NULL" in script.text
    assert "e = ''" in script.text
    assert script.constants[names[QUEUE]] == QUEUE
    [job] = [line for line in lines if "procrastinate" in line]
    assert f":{names['esims.provisioned']}" not in job  # or workers would take the yardstick's jobs


def test_the_yardstick_refuses_what_it_was_not_made_for() -> None:
    with pytest.raises(UnexpectedStatements, match="provider_states"):
        script_of([one for one in an_activation() if "provider_states" not in one.text], NUMBERS)
    blind = [replace(one, text=one.text.replace("AS profile_id", "AS id")) for one in an_activation()]
    with pytest.raises(UnexpectedStatements, match="no profile_id"):
        script_of(blind, NUMBERS)


def test_statements_as_the_server_tells_of_them() -> None:
    told = statement_of(
        7, "execute <unnamed>: SELECT $1, $2,\n $3", "Parameters: $1 = 'it''s, $2 = ''x''', $2 = NULL, $3 = ''"
    )
    assert told == Statement(7, "SELECT $1, $2,\n $3", ("it's, $2 = 'x'", None, ""))
    assert statement_of(7, "statement: BEGIN", None) == Statement(7, "BEGIN")
    assert statement_of(7, "relation exists, skipping", None) is None
    shapes = [[one.shape for one in unit] for unit in transactions(an_activation())]
    assert shapes == [list(unit) for unit in EXPECTED]


def test_what_pgbench_and_wrk_say() -> None:
    said = "number of transactions actually processed: 1200\nnumber of failed transactions: 0 (0.000%)\ntps = 398.5 (without"
    assert read_pgbench(said).per_second == 398.5
    with pytest.raises(RuntimeError):
        read_pgbench(said.replace(": 0 (", ": 3 ("))
    told = '{"requests":10,"us":2000000,"p50_us":1500,"p99_us":2500,"max_us":3000,"not_ok":0,"cut":0,"next_id":12}'
    load = read_wrk(f"Running 2s test\n{told}\n")
    assert (load.per_second, load.p99_ms, load.next_id, load.is_clean) == (5, 2.5, 12, True)
    assert not replace(load, not_ok=1).is_clean
    assert not replace(load, cut=1).is_clean
    with pytest.raises(RuntimeError, match="unable"):
        read_wrk("unable to connect")


def test_cost_is_told_by_the_request() -> None:
    assert Cost({"server": 2.0}, 10).per(1_000) == {"server": 2.0}


def a_record(*values: float, is_least: bool = True, unit: str = "ratio", **changes: object) -> Record:
    target = Target("P1", figure("activations ÷ pgbench", unit, values), 0.3, is_least=is_least, note="beside it")
    record = Record(
        "abc123", "2026-11-28", {"processor": "P", "cores": "2"}, [], [target], [figure("pgbench", "1/s", [1234.5])]
    )
    return replace(record, **changes)  # type: ignore[arg-type]  # by name


def test_a_target_is_met_by_the_median() -> None:
    [met], [missed] = a_record(0.1, 0.3, 0.4).targets, a_record(0.1, 0.29, 0.4).targets
    assert (met.is_met, missed.is_met) == (True, False)
    assert replace(missed, is_least=False).is_met
    assert (met.share, replace(met, is_least=False, bound=0.6).share) == (1, 2)


def test_worse_is_beyond_the_spread_and_by_a_tenth() -> None:
    then = a_record(0.40, 0.42, 0.44)
    assert list(worse(a_record(0.36, 0.37, 0.39), then)) != []
    assert list(worse(a_record(0.36, 0.37, 0.41), then)) == []  # as bad as the worst one on record
    assert list(worse(a_record(0.39, 0.39, 0.39), then)) == []  # not by a tenth
    assert list(worse(a_record(0.5, 0.5, 0.5), then)) == []


def test_absolute_figures_are_compared_on_the_same_machine_only() -> None:
    then, now = a_record(4.0, is_least=False, unit="ms"), a_record(9.0, is_least=False, unit="ms")
    assert "9" in next(worse(now, then))
    assert list(worse(replace(now, machine={"processor": "Q", "cores": "2"}), then)) == []


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = a_record(0.3, 0.31)
    assert read_record(tmp_path / "none.json") is None
    record.write(tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == record


def test_the_page_and_the_table(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    record = a_record(0.25, 0.27, 0.3, noise=["others used up to 20% of the processors during a measurement"])
    report.render(report.markdown(record), page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| P1 | activations ÷ pgbench | ≥ 0.300 | 0.270 | 0.250 to 0.300 | missed |" in text
    assert "**Too noisy to conclude:** others used up to 20%" in text
    assert "| pgbench | 1,234 1/s |  |" in text
    assert "old" not in text
    page.write_text("nothing")
    with pytest.raises(ValueError, match="markers"):
        report.render("", page)
    console = Console(width=132, record=True, file=StringIO())
    report.show(record, console)
    assert "missed" in console.export_text()


def test_the_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    met, missed = a_record(0.6), a_record(0.1)
    written: list[str] = []
    write = ImageDraw.ImageDraw.text

    def noted(pen: ImageDraw.ImageDraw, at: Any, text: str, *rest: Any, **more: Any) -> None:
        written.append(text)
        write(pen, at, text, *rest, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    chart.draw(replace(met, targets=met.targets + missed.targets), tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(100_000) or []}
    assert {(0x2A, 0x7F, 0x4F), (0xB3, 0x38, 0x2C)} <= colours
    assert "P1  activations / pgbench" in written
    assert all(map(str.isascii, written))  # the font has no more: the rest would be boxes


def test_growth_has_its_place_in_the_record() -> None:
    said = '[{"what": "activation", "small_ms": 10.0, "large_ms": 11.0, "spread": [1.05, 1.2], "ratio": 1.1}]'
    made = growing.read_growth(said)
    [target] = made.targets
    assert (target.key, target.figure.values, target.is_met) == ("P5", (1.05, 1.1, 1.2), True)
    earlier = a_record(0.3)
    kept = growing.taken_over(
        replace(earlier, targets=[*earlier.targets, target], figures=[*earlier.figures, *made.figures])
    )
    assert [(one.key, one.note) for one in kept.targets] == [("P5", "of 2026-11-28, with abc123")]
    assert kept.figures == made.figures
    assert growing.taken_over(None).targets == []


def test_growth_that_is_measured_by_itself_stands_in_the_record_with_its_own_day() -> None:
    def told(ratio: float) -> Measured:
        one = {"what": "activation", "ratio": ratio, "spread": [1, 1.2], "small_ms": 6, "large_ms": 6 * ratio}
        return growing.read_growth(json.dumps([one]))

    then, first, second = a_record(0.3), told(1.05), told(1.1)
    before = replace(then, targets=[*then.targets, *first.targets], figures=[*then.figures, *first.figures])
    now = replace(then, at="2026-11-30", commit="def456", targets=second.targets, figures=second.figures)
    merged = growing.put_into(before, now)
    assert (merged.at, merged.commit) == (then.at, then.commit)
    assert merged.targets == [*then.targets, replace(second.targets[0], note="of 2026-11-30, with def456")]
    assert merged.figures == [*then.figures, *second.figures]
