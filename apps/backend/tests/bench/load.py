"""Load, by wrk in a process of its own (docs/decisions/0016)."""

import asyncio
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from tests.system_packages import the_command

_SCRIPT = Path(__file__).with_name("requests.lua")
_TIMEOUT_S = 90
"""An answer that takes longer counts as one that didn't come. (wrk keeps a counter for each microsecond of it.)"""


@dataclass(frozen=True, slots=True)
class Load:
    """
    What wrk saw. Times in milliseconds; wrk corrects its percentiles upwards for requests that a slow answer kept from being sent.

    Attributes:
        not_ok: answers with a status of 400 or more.
        cut: connections that failed, and answers that didn't come.
        next_id: the first order that wasn't asked for.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    not_ok: int
    cut: int
    next_id: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def is_clean(self) -> bool:
        return self.requests > 0 and not self.not_ok and not self.cut


async def load(
    url: str, *asked: object, clients: int, seconds: float, key: str = "", stop: asyncio.Event | None = None
) -> Load:
    """
    Args:
        asked: the arguments of `requests.lua`.
        clients: connections, each with one request under way.
        seconds: how long; an upper limit for "once".
        key: the service key's secret.
        stop: ends it earlier.

    Raises:
        RuntimeError: wrk couldn't.
    """
    process = await asyncio.create_subprocess_exec(
        the_command("wrk", "bench"), "--threads=1", f"--connections={clients}", f"--duration={max(1, round(seconds))}s",
        f"--timeout={_TIMEOUT_S}s", f"--script={_SCRIPT}", url, "--", *map(str, asked),
        env=dict(os.environ) | {"BENCH_KEY": key}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    ending = asyncio.create_task(_end(process, stop)) if stop is not None else None
    said, complaints = await process.communicate()
    if ending is not None:
        ending.cancel()
    if process.returncode != 0:
        raise RuntimeError(
            f"wrk ended with {process.returncode}: {(said + complaints).decode(errors='replace')[-500:]}"
        )
    return read_wrk(said.decode())


async def _end(process: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
    await stop.wait()
    process.send_signal(signal.SIGINT)  # at which it tells what it has seen


def read_wrk(said: str) -> Load:
    """From what `requests.lua` prints at its end, among wrk's own words."""
    found = [line for line in said.splitlines() if line.startswith("{")]
    if len(found) != 1:
        raise RuntimeError(f"wrk says: {said[-500:]}")
    told = json.loads(found[0])
    return Load(
        told["requests"], told["us"] / 1e6, told["p50_us"] / 1e3, told["p99_us"] / 1e3, told["max_us"] / 1e3,
        told["not_ok"], told["cut"], told["next_id"],
    )  # fmt: skip
