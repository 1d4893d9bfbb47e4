"""What G23 takes for done while the source is the same: modules of which all mutants were tried, and mutants that were killed."""

import json
from pathlib import Path

import pytest

from tests.chaos import tried
from tests.chaos.mutants import Mutant

ONE, OTHER = "app/services/esims/pause.py", "app/services/esims/keep.py"
LIVES = Mutant("d", ONE, "look", "survived", "before", "after")


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "tried.json"
    monkeypatch.setattr(tried, "FILE", path)
    return path


def test_a_module_is_done_once_all_of_its_mutants_have_been_tried() -> None:
    assert tried.known() == {}
    tried.note([Mutant("a", ONE, "f", "killed"), Mutant("b", ONE, "f", "timeout"), Mutant("c", OTHER, "g", None)], "")
    tried.note([Mutant("c", OTHER, "g", None)], "")
    assert tried.known() == {ONE: {"killed": 1, "timeout": 1}}


def test_one_that_lives_without_a_reason_is_tried_again() -> None:
    tried.note([LIVES], "")
    assert tried.known() == {}
    tried.note([LIVES], f"{LIVES.row} it changes nothing |")
    assert tried.known() == {ONE: {"survived": 1}}


def test_of_a_module_that_is_not_done_those_that_were_killed_need_not_be_tried_again(file: Path) -> None:
    tried.note([Mutant("a", ONE, "f", "killed"), Mutant("b", ONE, "f", "timeout"), Mutant("c", ONE, "g", None)], "")
    assert (tried.known(), tried.killed()) == ({}, {"a"})
    file.write_text(file.read_text().replace(json.loads(file.read_text())[ONE]["source"], "of another day"))
    assert tried.killed() == set()
    tried.note([Mutant("a", ONE, "f", "killed"), LIVES], "")
    assert tried.killed() == {"a"}
    tried.note([Mutant("a", ONE, "f", "killed")], "")
    assert (tried.known(), tried.killed()) == ({ONE: {"killed": 1}}, set())


def test_a_module_that_has_changed_since_is_not_done(file: Path) -> None:
    tried.note([Mutant("a", ONE, "f", "killed"), Mutant("c", OTHER, "g", "killed")], "")
    entries = json.loads(file.read_text())
    entries[ONE]["source"] = "of another day"
    file.write_text(json.dumps(entries))
    assert list(tried.known()) == [OTHER]
    tried.note([], "")
    assert list(json.loads(file.read_text())) == [OTHER]
