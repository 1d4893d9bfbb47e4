"""`docs/security/asvs.md`: no row is empty, and the tests that it names are there."""

import ast
import re

import pytest

from app.settings import BACKEND_DIR

PAGE = BACKEND_DIR.parents[1] / "docs" / "security" / "asvs.md"
ROWS = re.findall(r"^\| ([0-9.]+) \| ([123]) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_CHAPTERS = {
    "6.1": 3,
    "6.2": 11,
    "6.3": 4,
    "6.4": 4,
    "6.5": 5,
    "6.6": 3,
    "6.8": 4,
    "7.1": 3,
    "7.2": 4,
    "7.3": 2,
    "7.4": 5,
    "7.5": 2,
    "7.6": 2,
}
"""How many rows of level 1 and 2 each section has; they are numbered before those of level 3 (6.7 has those only)."""


def test_chapters_6_and_7_are_whole() -> None:
    wanted = {f"{section}.{n}" for section, rows in _CHAPTERS.items() for n in range(1, rows + 1)}
    assert wanted - {row for row, *_ in ROWS} == set()
    assert len({row for row, *_ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("row", "level", "state", "how", "held"), ROWS, ids=[row for row, *_ in ROWS])
def test_a_row_is_met_and_held_by_tests_or_says_why_not(row: str, level: str, state: str, how: str, held: str) -> None:
    assert state in {"met", "not applicable", "exception"}
    assert len(how.strip()) >= len("sealed")
    tests = _TEST.findall(held)
    assert tests or state != "met"
    assert state != "exception" or "since 20" in how
    for path, name in tests:
        tree = ast.parse((BACKEND_DIR / path).read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in names, f"{path} has no {name}"


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE.read_text()):
        assert (PAGE.parent / target).exists(), target
