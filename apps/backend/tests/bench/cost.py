"""What processes cost: CPU, and memory at its peak."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import psutil

_LOOK_S = 0.05


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def cpu_of(pid: int) -> float:
    """Seconds (user and system) of a process, its children, and those of its children that have ended."""
    total = 0.0
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_of(pid: int) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


@dataclass
class Cost:
    """
    Attributes:
        cpu_s: by the name of each family of processes.
        seconds: how long was looked.
    """

    cpu_s: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def per(self, requests: int) -> dict[str, float]:
        """Milliseconds of CPU a request."""
        return {name: seconds / max(requests, 1) * 1e3 for name, seconds in self.cpu_s.items()}


@asynccontextmanager
async def cost_of(families: Mapping[str, int]) -> AsyncIterator[Cost]:
    """`families`: the process at the head of each. What the block costs stands there at its end."""
    cost = Cost()
    loop = asyncio.get_running_loop()
    begun, before = loop.time(), {name: cpu_of(pid) for name, pid in families.items()}
    yield cost
    cost.cpu_s = {name: cpu_of(pid) - before[name] for name, pid in families.items()}
    cost.seconds = loop.time() - begun


@dataclass
class Peak:
    """The most resident bytes that were seen."""

    bytes: int = 0


@asynccontextmanager
async def peak_of(pid: int) -> AsyncIterator[Peak]:
    peak = Peak()

    async def look() -> None:
        while True:
            peak.bytes = max(peak.bytes, memory_of(pid))
            await asyncio.sleep(_LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield peak
    finally:
        looking.cancel()
