"""What it is measured on, and how quiet that is."""

import asyncio
import os
import platform
import re
import time
from importlib.metadata import version
from pathlib import Path

import psutil

from app.postgres.lease import find_bin_dir
from tests.bench.cost import cpu_of
from tests.system_packages import the_command

_PACKAGES = (
    "uvicorn",
    "uvloop",
    "httptools",
    "fastapi",
    "starlette",
    "sqlalchemy",
    "psycopg",
    "aiohttp",
    "procrastinate",
)
_TURNS = 600_000
_SPREAD = 0.15
_OTHERS = 0.10


async def describe(file_system: str) -> dict[str, str]:
    """Never a host's name or a path: the page is public."""
    postgres = await _said(str(find_bin_dir() / "postgres"), "--version")
    wrk = await _said(the_command("wrk", "bench"), "--version")
    found = re.search(r"wrk \S+", wrk)
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 1024**3:.0f} GB",
        "file system": file_system,
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "PostgreSQL": postgres.split()[-1],
        "load": found[0] if found else "wrk",
        **{name: version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


async def _said(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return said.decode()


class Quiet:
    """
    How quiet the machine is: the time of a fixed piece of work, done again and again between measurements, and the share of the
    processors' time that went to others than us.
    """

    def __init__(self) -> None:
        self._ours: list[int] = [os.getpid()]
        self._loops: list[float] = []
        self._others: list[float] = []
        self._before: tuple[float, float, float] | None = None

    def count_in(self, pid: int) -> None:
        """A family that is ours, too."""
        self._ours.append(pid)

    def look(self) -> None:
        """Call it while nothing of ours works."""
        total, busy, ours = self._times()
        if self._before is not None and total > self._before[0]:
            others = (busy - self._before[1]) - (ours - self._before[2])
            self._others.append(max(0.0, others / (total - self._before[0])))
        begun = time.perf_counter()
        _work()
        self._loops.append(time.perf_counter() - begun)
        self._before = self._times()

    def _times(self) -> tuple[float, float, float]:
        """Seconds of all processors: in all, not idle (what a host took away is not), and ours."""
        times = psutil.cpu_times()
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)  # counted twice by Linux
        idle = times.idle + getattr(times, "iowait", 0.0)
        return total, total - idle, sum(map(cpu_of, self._ours))

    def complaints(self) -> list[str]:
        """A line for each reason why the figures say little; none on a quiet machine."""
        found = []
        if len(self._loops) > 1 and max(self._loops) > min(self._loops) * (1 + _SPREAD):
            spread = max(self._loops) / min(self._loops) - 1
            found.append(f"a fixed piece of work took up to {spread:.0%} longer at one time than at another")
        if self._others and max(self._others) > _OTHERS:
            found.append(f"others used up to {max(self._others):.0%} of the processors during a measurement")
        return found


def _work() -> None:
    value = 1
    for turn in range(_TURNS):
        value = (value * 31 + turn) % 1_000_003
