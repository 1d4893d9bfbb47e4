"""
mutmut with one correction, run by `g23.py` in a process of its own, in the folder where mutmut runs.

mutmut notes which functions each test calls. What a fixture calls once for a whole module it notes for the first test alone that
uses it, and so wouldn't ask the others, which look at what came of it, too.
"""

import ast
from pathlib import Path
from typing import Any

from mutmut import __main__ as mutmut
from mutmut.state import state

_FIXTURE = "encounters"
_FILE = Path("tests") / "test_esim_providers.py"

_OF_FIXTURE_S = 0.02
"""What the fixture takes, divided among its tests."""


def _tests_of_fixture() -> set[str]:
    """The ids, without parameters, of the tests that are given the fixture."""
    return {
        f"{_FILE}::{node.name}"
        for node in ast.parse(_FILE.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and _FIXTURE in {argument.arg for argument in node.args.args}
    }


def main() -> None:
    collect = mutmut.collect_or_load_stats

    def collect_and_share(*args: Any, **kwargs: Any) -> None:
        collect(*args, **kwargs)
        names = _tests_of_fixture()
        sharing = {test for test in state().duration_by_test if test.partition("[")[0] in names}
        assert len(sharing) > len(names), "they are parametrized"
        for tests in state().tests_by_mangled_function_name.values():
            if tests & sharing:
                tests |= sharing
        # The quickest are tried first, and mutmut doesn't count fixtures: without this each mutant would begin with that one.
        for test in sharing:
            state().duration_by_test[test] += _OF_FIXTURE_S

    mutmut.collect_or_load_stats = collect_and_share
    mutmut.cli()


if __name__ == "__main__":
    main()
