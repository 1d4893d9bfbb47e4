"""
mutmut with three changes, run by `g23.py` in a process of its own, in the folder where mutmut runs.

It notes which functions each test calls. What a fixture calls once for a whole module it notes for the first test alone that uses
it, and so wouldn't ask the others, which look at what came of it, too.

A mutant that makes a test hang would keep a place for a minute and a half: it has run out of time when one test has, whose time is
many times what any of them takes.

It runs a mutant's tests in no order, some 40 s of them, until one fails. But who has noticed one change to a function mostly
notices the next one, too: so those are asked first, where they have noticed nothing those that know its module, and so on.
What nobody notices is shown to tests that aren't in its selection, as they take longer.
"""

import ast
import os
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from mutmut import __main__ as mutmut
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.utils.file_utils import change_cwd
from mutmut.utils.format_utils import mangled_name_from_mutant_name

_FIXTURE = "encounters"
_FILE = Path("tests") / "test_esim_providers.py"

_OF_FIXTURE_S = 0.02
"""What the fixture takes, divided among its tests."""

_NOTICED = Path("noticed")
"""A file for each function, with the tests that have noticed changes to it; beside mutmut's copy of the sources."""

_FIRST = 8
_LAST = ("tests/api/test_activation.py", "tests/api/test_activation_failures.py")
"""They start a server, which takes a second: so only what nobody else has noticed is shown to them."""

_OF_LAST = "app.services.esims."
_TEST_WITHIN_S = 45
"""The slowest takes four, and with all others at work fifteen."""


class _Noting:
    """Writes down which tests fail, or hang."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.has_noticed = False

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        def give_up(_signal: int, _frame: object) -> None:
            self._note(nodeid)
            os.kill(os.getpid(), signal.SIGXCPU)  # as mutmut ends those that run out of time

        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(_TEST_WITHIN_S)

    def pytest_runtest_logfinish(self) -> None:
        signal.alarm(0)  # what comes between two tests isn't the former one's

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._note(report.nodeid)

    def _note(self, nodeid: str) -> None:
        self.has_noticed = True
        with self._path.open("a") as file:  # many processes append to it, a line at a time
            file.write(f"{nodeid}\n")


def _run_likeliest_first(runner: PytestRunner, *, mutant_name: str | None, tests: Iterable[str]) -> int:
    if mutant_name is None or not tests:
        return _RUN(runner, mutant_name=mutant_name, tests=tests)
    function = mangled_name_from_mutant_name(mutant_name)
    path = (_NOTICED / function).absolute()
    likely, everybody = _noted(path.name), _noted("*")
    same_module = _noted(f"{function.rpartition('.')[0]}.*")
    first = [test for test, _ in likely.most_common() if test in tests or test.startswith(_LAST)][:_FIRST]
    others = sorted(
        (test for test in tests if test not in first),
        key=lambda test: (-same_module[test], -everybody[test], state().duration_by_test[test]),
    )
    last = _LAST if function.startswith(_OF_LAST) else ()
    noting, ending = _Noting(path), 0
    with change_cwd("mutants"):
        for chosen in (first, others, last):
            if chosen and ending == 0:
                try:
                    ending = runner.execute_pytest(runner._pytest_args_regular_run(chosen), plugins=[noting])  # noqa: SLF001
                except Exception:
                    if not noting.has_noticed:
                        raise
                    return 1  # of what a failed test has left open, pytest complains at its very end
    return ending


def _noted(pattern: str) -> Counter[str]:
    """How often each test has noticed a change, by the files of that pattern."""
    return Counter(test for path in _NOTICED.glob(pattern) for test in path.read_text().splitlines())


_RUN = PytestRunner.run_tests


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
    _NOTICED.mkdir(exist_ok=True)
    PytestRunner.run_tests = _run_likeliest_first  # type: ignore[method-assign, assignment]
    mutmut.cli()


if __name__ == "__main__":
    main()
