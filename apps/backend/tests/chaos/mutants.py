"""
What mutmut knows of its mutants, asked in a process of its own, in the folder where mutmut runs:

    python -m tests.chaos.mutants PAGE    makes the mutants of functions that have changed, then lists all as JSON
"""

import io
import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path

RESULTS = Path("mutants")
"""mutmut's folder, within the one where it runs."""

LIVES = frozenset({"survived", "no tests"})
_KILLED, _SURVIVED, _NO_TESTS = {1, 3}, {0}, {5, 33}


@dataclass(frozen=True, slots=True)
class Mutant:
    """
    Attributes:
        ending: killed, survived, no tests or timeout; None while it hasn't been tried.
        before, after: the lines that it changes, for those that live, or may be known to.
    """

    name: str
    module: str
    function: str
    ending: str | None
    before: str = ""
    after: str = ""

    @property
    def lives(self) -> bool:
        return self.ending in LIVES

    def wants_reason(self, page: str) -> bool:
        """
        Args:
            page: docs/mutants.md.
        """
        return self.lives and self.row not in page

    @property
    def row(self) -> str:
        """The beginning of its row in docs/mutants.md, which a reason follows."""
        return f"| `{self.function}` | {_cell(self.before)} | {_cell(self.after)} |"


def _cell(code: str) -> str:
    shown = code.replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`" if shown else ""


def forget_endings(results: Path, names: set[str]) -> None:
    """These mutants are to be tried again."""
    _set_endings(results, dict.fromkeys(names))


def note_as_tried(results: Path, *, killed: set[str], living: set[str]) -> None:
    """These mutants aren't to be tried."""
    _set_endings(results, dict.fromkeys(killed, 1) | dict.fromkeys(living, 0))


def _set_endings(results: Path, of: Mapping[str, int | None]) -> None:
    for path in results.rglob("*.py.meta"):
        known = json.loads(path.read_text())
        known["exit_code_by_key"] |= {name: of[name] for name in known["exit_code_by_key"] if name in of}
        path.write_text(json.dumps(known))


def _ending(status: int) -> str:
    if status in _KILLED:
        return "killed"
    return "survived" if status in _SURVIVED else "no tests" if status in _NO_TESTS else "timeout"


def _make() -> None:
    from mutmut.__main__ import create_mutants
    from mutmut.mutation.trampoline import set_mutant_under_test
    from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir

    set_mutant_under_test("mutant_generation")
    RESULTS.mkdir(exist_ok=True)
    copy_src_dir()
    copy_also_copy_files()
    create_mutants(1)


def _list(page: str) -> list[Mutant]:
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.utils.format_utils import orig_function_and_class_names_from_key

    listed = []
    for path in sorted(RESULTS.rglob("*.py.meta")):
        module = str(path.relative_to(RESULTS)).removesuffix(".meta")
        for name, status in json.loads(path.read_text())["exit_code_by_key"].items():
            function, class_name = orig_function_and_class_names_from_key(name)
            where = f"{class_name}.{function}" if class_name else function
            mutant = Mutant(name, module, where, None if status is None else _ending(status))
            if mutant.lives or (status is None and f"| `{where}` |" in page):
                lines = get_diff_for_mutant(name).splitlines()[3:]
                before, after = ("⏎".join(line[1:].strip() for line in lines if line[:1] == sign) for sign in "-+")
                mutant = replace(mutant, before=before, after=after)
            listed.append(mutant)
    return listed


if __name__ == "__main__":
    with redirect_stdout(io.StringIO()):  # mutmut tells every file
        _make()
        found = _list(Path(sys.argv[1]).read_text("utf-8"))
    json.dump([asdict(mutant) for mutant in found], sys.stdout)
