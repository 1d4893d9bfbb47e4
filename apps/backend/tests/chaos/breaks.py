"""Does the proof notice? Each sabotage is done to a copy of the product, and the proof's tests are run on that copy."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

from app.settings import BACKEND_DIR
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.sabotage import SABOTAGES, Sabotage

_TESTS = ("tests/services/esims", "tests/test_esim_providers.py", "tests/test_migrations.py", "tests/proof")
"""The quick ones first: what they notice the runs of the proof needn't be tried for."""
_LEFT_OUT = shutil.ignore_patterns(".data", ".env", "__pycache__", ".*_cache", ".hypothesis", "mutants", "requirements")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?)(?:\[| |$)", re.MULTILINE)


async def run(folder: Path, *, n: int, seed: int, tick: Tick = no_tick) -> Outcome:
    """
    Args:
        n: sabotages, from the list's first on.
        seed: chance has no part in it.
    """
    outcome = Outcome()
    for number, sabotage in enumerate(SABOTAGES[:n]):
        noticed_by = await _noticed(folder / str(number), sabotage)
        outcome.counts[f"{sabotage.name}: {noticed_by or 'not noticed'}"] += 1
        if noticed_by is None:
            outcome.failures.append(f"no test notices that {sabotage.name}")
        outcome.done += 1
        tick(1)
    return outcome


async def _noticed(folder: Path, sabotage: Sabotage) -> str | None:
    """The first test that fails on a broken copy, None if none does."""
    backend = folder / "apps" / "backend"
    shutil.copytree(BACKEND_DIR, backend, ignore=_LEFT_OUT)
    shutil.copytree(BACKEND_DIR.parents[1] / "contracts", folder / "contracts")
    for edit in sabotage.edits:
        edit.make(backend)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *_TESTS),
        cwd=backend,
        env=dict(os.environ) | {"PYTHONPATH": str(backend)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    shutil.rmtree(folder)
    found = _FAILED.search(output.decode("utf-8", "replace"))
    assert process.returncode in {0, 1}, output.decode("utf-8", "replace")[-2000:]
    return found[1] if found else None
