"""
G23: mutations. Every function of the activation, of the classification of answers, of settling, of authorization and of the
provider's signatures is changed in one place at a time, and the tests are run: a change that no test notices is a hole in them, or
changes nothing that matters (docs/mutants.md).

It is done in `apps/backend/mutants/`, a copy of the product that stays, so that it goes on where it was stopped; delete it to
begin anew. What docs/mutants.md lists as living counts as living, and isn't tried again. What has been tried stands in
docs/mutants_tried.json (`tried.py`) once a run has ended, for other machines, too. One database server serves all mutants. What is
written outside of functions, SQL above all, is not mutated: that is what `breaks` is for.
"""

import asyncio
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import psycopg

from app import schema
from app.postgres import hold
from app.settings import BACKEND_DIR
from tests.chaos import tried
from tests.chaos.mutants import LIVES, RESULTS, Mutant, forget_endings, note_as_tried
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.conftest import SERVER, other_database

SCORE = 0.9
PAGE = BACKEND_DIR.parents[1] / "docs" / "mutants.md"
_COPY = BACKEND_DIR / "mutants"
_BACKEND = _COPY / "apps"
"""One level higher than in the repository, as mutmut works one level deeper: tests look for `contracts/` above them."""
_TESTS_TRIED = _COPY / "tests.sha256"
_MUTMUT = "import runpy; runpy.run_path('tests/chaos/mutating.py', run_name='__main__')"
"""Not `-m`: that would import `tests`, of which the mutants have a copy of their own."""


async def run(folder: Path, *, n: int, seed: int, tick: Tick = no_tick) -> Outcome:
    """
    Args:
        n: modules, of those that aren't done.
        seed: chance has no part in it.
    """
    tests = _make_copy()
    outcome = Outcome(done=n)
    with hold(folder / "server") as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE template_tribi")
        schema.migrate(other_database(server.url, "template_tribi"))
        await _forget_what_new_tests_may_notice(tests)
        left: dict[str, list[str]] = {}
        known, page = tried.known(), PAGE.read_text("utf-8")
        untried = [mutant for mutant in await mutants() if mutant.ending is None and mutant.module not in known]
        listed = {mutant.name for mutant in untried if mutant.row in page}
        killed = tried.killed() & {mutant.name for mutant in untried}
        note_as_tried(_BACKEND / RESULTS, killed=killed, living=listed)
        for mutant in untried:
            if mutant.name not in listed | killed:
                left.setdefault(mutant.module, []).append(mutant.name)
        chosen = sorted(left.values(), key=len)[:n]
        if chosen:
            # Most of a test is waiting, for sockets and for the database.
            children = 3 * (os.cpu_count() or 1)
            names = [name for module in chosen for name in module]
            await _python("-c", _MUTMUT, "run", "--max-children", str(children), *names, server_url=server.url)
    tick(n)
    found = [mutant for mutant in await mutants() if mutant.module not in known]
    _judge(outcome, found, known)
    tried.note(found, PAGE.read_text("utf-8"))  # with the rows that were written meanwhile
    return outcome


async def mutants() -> list[Mutant]:
    """All of them, as they stand."""
    return [Mutant(**found) for found in json.loads(await _python("-m", "tests.chaos.mutants", str(PAGE)))]


def _judge(outcome: Outcome, found: list[Mutant], known: dict[str, dict[str, int]]) -> None:
    """
    Args:
        found: mutants that earlier batches left open; these are counted.
        known: modules on record, with how many ended how; these make the score, too.
    """
    listed = PAGE.read_text("utf-8")
    endings = Counter[str]()
    for of_module in known.values():
        endings.update(of_module)
    for mutant in found:
        ending = mutant.ending or "not tried"
        endings[ending] += 1
        outcome.counts[f"{mutant.module.removeprefix('app/services/')}: {ending}"] += 1
        if mutant.wants_reason(listed):
            outcome.failures.append(f"not in docs/mutants.md under {mutant.module}: {mutant.row}")
    tried_in_all = endings.total() - endings["not tried"]
    score = 1 - sum(endings[ending] for ending in LIVES) / max(tried_in_all, 1)
    outcome.figures |= {"mutants": tried_in_all, "score": round(score, 4)}
    if score < SCORE:
        outcome.failures.append(f"{score:.1%} of the mutants are noticed, and {SCORE:.0%} are claimed")


def _make_copy() -> str:
    """Brings the copy up to date; what is known of functions that haven't changed stays. Returns a hash of the tests."""
    _BACKEND.mkdir(parents=True, exist_ok=True)
    for name in ("contracts", "docs", "examples"):
        if not (_COPY / name).is_symlink():
            (_COPY / name).symlink_to(BACKEND_DIR.parents[1] / name)
    for name in ("app", "tests", "migrations"):
        shutil.rmtree(_BACKEND / name, ignore_errors=True)
        shutil.copytree(BACKEND_DIR / name, _BACKEND / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".env.example"):
        shutil.copy2(BACKEND_DIR / name, _BACKEND / name)
    tests = hashlib.sha256()
    for path in sorted((BACKEND_DIR / "tests").rglob("*.py")):
        tests.update(path.read_bytes())
    return tests.hexdigest()


async def _forget_what_new_tests_may_notice(tests: str) -> None:
    """
    Args:
        tests: their hash.
    """
    if _TESTS_TRIED.exists() and _TESTS_TRIED.read_text() == tests:
        return
    listed = PAGE.read_text("utf-8")  # what is listed changes nothing that a test could notice
    again = {one.name for one in await mutants() if one.ending == "timeout" or one.wants_reason(listed)}
    forget_endings(_BACKEND / RESULTS, again)
    _TESTS_TRIED.write_text(tests)


async def _python(*arguments: str, server_url: str = "") -> bytes:
    """What a process prints that runs in the copy."""
    environment = dict(os.environ) | {"PYTHONPATH": str(_BACKEND), SERVER: server_url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=_BACKEND, env=environment, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode("utf-8", "replace")[-2000:]
    return printed
