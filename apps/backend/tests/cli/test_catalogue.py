"""`tribi catalogue`, off a terminal and on one."""

import json
import os
import pty
import subprocess
from pathlib import Path

import psycopg
import pytest

from tests.cli.commands import BACKEND, TRIBI, environment, tribi
from tests.services.catalogue.files import a_file, a_line

EXAMPLE = BACKEND.parents[1] / "examples" / "catalogue.csv"


def skus(database_url: str) -> list[str]:
    with psycopg.connect(database_url) as connection:
        return [row[0] for row in connection.execute("SELECT sku FROM plans WHERE is_on_sale ORDER BY sku")]


def on_a_terminal(database_url: str, *arguments: str, answer: str) -> tuple[int, str]:
    """Exit status and all that was on the screen."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*TRIBI, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(database_url)
        )
        os.close(theirs)
        os.write(ours, answer.encode() + b"\n")
        screen = b""
        try:
            while read := os.read(ours, 4096):
                screen += read
        except OSError:  # the terminal's other side is closed
            pass
        return process.wait(60), screen.decode()
    finally:
        os.close(ours)


def test_the_example_is_imported_is_in_order_and_comes_back_as_it_was(database_url: str, tmp_path: Path) -> None:
    done = tribi(database_url, "catalogue", "import", str(EXAMPLE), "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "added es-5gb-30d: Spain 5 GB, ES, 5120 MB, 30 days, 12.90 EUR; CONNECTED_YOU CY-ES-5GB at " in done.stdout
    assert done.stdout.endswith("Imported: 13 added, 0 changed, 0 unchanged, 0 withdrawn.\n")
    done = tribi(database_url, "catalogue", "check")
    assert (done.returncode, done.stdout) == (0, "The catalogue is in order.\n")
    tribi(database_url, "catalogue", "export", str(tmp_path / "out.csv"))
    assert (tmp_path / "out.csv").read_bytes() == EXAMPLE.read_bytes()
    assert tribi(database_url, "catalogue", "export").stdout.encode() == EXAMPLE.read_bytes()


def test_off_a_terminal_nothing_is_imported_without_yes(database_url: str) -> None:
    done = tribi(database_url, "catalogue", "import", str(EXAMPLE), "--replace")
    line = f"tribi catalogue import {EXAMPLE} --yes --replace"
    assert done.returncode == 1
    assert done.stderr == f"tribi: nothing was imported; to import this, type: {line}\n"
    assert "To import: 13 added" in done.stdout
    assert skus(database_url) == []


def test_every_bad_line_is_named_and_nothing_is_imported(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(
        a_file(a_line(), a_line(sku="b", price_minor="-5"), a_line(sku="c", data_mb="x"))
    )
    done = tribi(database_url, "catalogue", "import", str(tmp_path / "bad.csv"), "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "tribi: line 3: price_minor: -5 must not be negative",
        "tribi: line 4: data_mb: x is not a whole number of megabytes: write digits only",
        "tribi: nothing was imported",
    ]
    assert skus(database_url) == []


def test_standard_input_is_read_and_json_tells_what_was_done(database_url: str) -> None:
    done = tribi(database_url, "catalogue", "import", "-", "--yes", "--json", given=a_file(a_line()))
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "imported": True,
        "counts": {"added": 1, "changed": 0, "unchanged": 0, "withdrawn": 0, "kept": 0},
        "added": ["es-5gb"],
        "changed": [],
        "withdrawn": [],
    }


def test_all_that_changes_or_is_withdrawn_is_shown_and_of_what_is_added_the_beginning(database_url: str) -> None:
    many = [a_line(sku=f"plan-{number}", connected_you_plan_code=f"C-{number}") for number in range(50)]
    done = tribi(database_url, "catalogue", "import", "-", "--yes", given=a_file(*many))
    assert done.stdout.count("\nadded ") == 19
    assert "\nand 30 more added\n" in done.stdout
    dearer = [
        a_line(sku=f"plan-{number}", connected_you_plan_code=f"C-{number}", price_minor="1") for number in range(25)
    ]
    done = tribi(database_url, "catalogue", "import", "-", "--replace", given=a_file(*dearer))
    assert done.stdout.count("changed plan-") == 25
    assert done.stdout.count("withdrawn plan-") == 25


@pytest.mark.parametrize(("name", "reason"), [("none.csv", "No such file or directory"), ("", "Is a directory")])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    done = tribi("postgresql://nowhere.invalid/none", "catalogue", "import", str(path), "--yes")
    assert (done.returncode, done.stderr) == (1, f"tribi: cannot read {path}: {reason}\n")


def test_a_file_that_cannot_be_written_is_one_line(database_url: str, tmp_path: Path) -> None:
    done = tribi(database_url, "catalogue", "export", str(tmp_path))
    assert (done.returncode, done.stderr) == (1, f"tribi: cannot write {tmp_path}: Is a directory\n")


def test_check_ends_with_1_on_an_error(database_url: str) -> None:
    done = tribi(database_url, "catalogue", "check", "--json")
    assert done.returncode == 1
    assert [finding["code"] for finding in json.loads(done.stdout)] == ["no-plans"]


@pytest.mark.parametrize(("answer", "status", "imported"), [("y", 0, 13), ("", 1, 0), ("n", 1, 0)])
def test_on_a_terminal_it_shows_and_asks(database_url: str, answer: str, status: int, imported: int) -> None:
    returned, screen = on_a_terminal(database_url, "catalogue", "import", str(EXAMPLE), answer=answer)
    assert (returned, len(skus(database_url))) == (status, imported), screen
    assert "Import? [y/N]" in screen
    assert "es-5gb-30d" in screen
