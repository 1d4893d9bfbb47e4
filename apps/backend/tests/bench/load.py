"""Load, by wrk in a process of its own."""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).with_name("requests.lua")
_PATIENCE_S = 600


@dataclass(frozen=True, slots=True)
class Load:
    """
    What wrk saw. Times in milliseconds.

    Attributes:
        not_ok: answers with a status of 400 or more.
        cut: connections that failed, and answers that didn't come.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    not_ok: int
    cut: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


async def load(url: str, *asked: object, clients: int, seconds: float, key: str = "") -> Load:
    """
    Args:
        asked: the arguments of `requests.lua`.
        clients: connections, each with one request under way.
        seconds: how long; an upper limit for "once".
        key: the service key's secret.
    """
    process = await asyncio.create_subprocess_exec(
        "wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds:.0f}s", "--timeout", f"{_PATIENCE_S}s",
        "--script", _SCRIPT, url, "--", *map(str, asked),
        env=dict(os.environ) | {"BENCH_KEY": key}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complaints = await process.communicate()
    found = [line for line in said.decode().splitlines() if line.startswith("{")]
    if process.returncode != 0 or not found:
        raise RuntimeError(f"wrk ended with {process.returncode}: {(said + complaints).decode(errors='replace')[-500:]}")
    told = json.loads(found[0])
    return Load(
        told["requests"], told["us"] / 1e6, told["p50_us"] / 1e3, told["p99_us"] / 1e3, told["max_us"] / 1e3,
        told["not_ok"], told["cut"],
    )  # fmt: skip
