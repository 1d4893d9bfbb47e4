"""P7: how long it takes until something is there: `tribi --help`, a server, and `make demo` in a fresh clone."""

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench.activations import Between
from tests.bench.pace import Pace
from tests.bench.results import ROOT, Measured, Target, figure
from tests.bench.shop import Stage
from tests.processes.programs import TRIBI, environment

_DEMO_WITHIN_S = 900


async def starts(stage: Stage, pace: Pace, between: Between) -> Measured:
    """`tribi --help`, and a server with the embedded database: with none yet, and with the one that is there then."""
    helps: list[float] = []
    first: list[float] = []
    later: list[float] = []
    for _ in range(pace.repetitions):
        between()
        helps.append(await _timed(str(TRIBI), "--help", env=environment(stage.folder, {})))
        data = Path(tempfile.mkdtemp(prefix="start-", dir=stage.folder))
        os.chmod(data, 0o711)  # noqa: PTH101, S103 - as a folder in a clone is: root's database server is another user's
        settings = {"DATABASE_URL": None, "TRIBI_DATA_DIR": str(data), "ENCRYPTION_KEY": None, "ESIM_PROVIDER": "LOCAL"}
        for found in (first, later):
            begun = time.perf_counter()
            server = await stage.site.serve(**settings)
            found.append(time.perf_counter() - begun)
            server.send(signal.SIGTERM)
            await server.ended()
    return Measured(
        [
            Target("P7", figure("tribi --help", "s", helps), 0.4, is_least=False),
            Target("P7", figure("server ready, first start", "s", first), 3, is_least=False),
            Target("P7", figure("server ready, later start", "s", later), 3, is_least=False),
        ]
    )


async def demo(stage: Stage, pace: Pace, between: Between) -> Measured:
    """`make demo` in a clone of what is committed: once with all of its setup, packages from their cache, then again."""
    between()
    with tempfile.TemporaryDirectory(dir=stage.folder) as name:
        os.chmod(name, 0o711)  # noqa: PTH101, S103 - as above
        clone = Path(name) / "tribi"
        await _timed("git", "clone", "--quiet", "--no-local", str(ROOT), str(clone))
        cold = await _timed("make", "demo", cwd=clone, env=_like_a_shell())
        warm = [await _timed("make", "demo", cwd=clone, env=_like_a_shell()) for _ in range(pace.repetitions)]
    return Measured(
        [
            Target(
                "P7", figure("make demo, with its setup", "s", [cold]), 90, is_least=False, note="once; packages cached"
            ),
            Target("P7", figure("make demo, again", "s", warm), 5, is_least=False),
        ]
    )


def _like_a_shell() -> dict[str, str]:
    """What a person's shell has, without what `make bench` and the tests' settings add to it; package caches lie below HOME."""
    added = ("MAKE", "MFLAGS", "TRIBI_ENV_FILE", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(added)}


async def _timed(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> float:
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), _DEMO_WITHIN_S)
    if process.returncode != 0:
        raise RuntimeError(f"{command} ended with {process.returncode}: {said.decode(errors='replace')[-1500:]}")
    return time.perf_counter() - begun
