"""What every file of the house has in common. (Who may import whom is `lint-imports`'s, in pyproject.toml.)"""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from app.settings import BACKEND_DIR

ROOT = BACKEND_DIR.parents[1]
MODULES = sorted((BACKEND_DIR / "app").rglob("*.py"))
LONGEST = 400

_MACHINE_PATH = re.compile(r"(^|[^a-zA-Z0-9_./])/(work|farm)/", re.MULTILINE)


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(BACKEND_DIR)) for path in MODULES])
def test_every_module_says_what_it_is_and_is_not_too_long(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), "it has no docstring"
    assert source.count("\n") <= LONGEST, f"past {LONGEST} lines: which second idea moved in?"


def tracked_texts() -> dict[str, str]:
    """Every text file under version control by its path."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    texts = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            texts[name] = data.decode("utf-8")
    return texts


def test_no_file_names_a_place_on_the_machine_where_it_was_written() -> None:
    found = [name for name, text in tracked_texts().items() if _MACHINE_PATH.search(text)]
    assert found == []


# In capitals here, or this file would be found as well.
@pytest.mark.parametrize("line", ["/WORK/main", "see /FARM/x", "'/WORK/main'", "=/WORK/a"])
def test_a_place_on_a_machine_is_recognised(line: str) -> None:
    assert _MACHINE_PATH.search(line.lower())


@pytest.mark.parametrize("line", ["https://example.com/WORK/main", "art/WORK/", "/WORKers/", "./FARM/b"])
def test_what_only_looks_like_one_is_not(line: str) -> None:
    assert not _MACHINE_PATH.search(line.lower())


def test_no_locked_requirement_names_the_registry_it_came_from() -> None:
    locks = sorted((BACKEND_DIR / "requirements").glob("*.txt"))
    assert locks
    for lock in locks:
        lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
        assert [
            line for line in lines if "://" in line or re.match(r"\s*(-i|-f|--(extra-)?index|--find|--trust)", line)
        ] == []
