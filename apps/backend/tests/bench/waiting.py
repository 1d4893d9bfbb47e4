"""P3 and P4: thousands of activations wait for a slow provider, in one process, and everything else stays quick meanwhile."""

import asyncio
import resource
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.activations import Between, checked
from tests.bench.cost import Peak, peak_of
from tests.bench.load import Load, load
from tests.bench.pace import Pace
from tests.bench.results import Figure, Measured, Target, figure
from tests.bench.shop import Stage

_PLANS = "/api/plans"
_READERS, _READ_EACH_MS = 4, 50
_WITHIN_S = 85
_DESCRIPTORS_EACH = 2
_DESCRIPTORS_BESIDES = 200
_MB = 1e6


class TooFewDescriptors(Exception):
    """`str()` says what to type."""


@dataclass(frozen=True, slots=True)
class _Crowd:
    """What came of many activations at once."""

    bought: Load
    read: Load
    peak: Peak
    provisioned: int
    unknown: int


async def a_thousand_at_once(stage: Stage, pace: Pace, between: Between) -> Measured:
    """P3: the provider takes two seconds."""
    seen = await _crowds(stage, pace, between, 1_000, 2.0, {})
    return Measured(
        [
            Target("P3", figure("1,000 at once: wall", "s", [one.bought.seconds for one in seen]), 4.0, is_least=False),
            Target("P3", figure("not provisioned", "", [1_000 - one.provisioned for one in seen]), 0, is_least=False),
            Target("P3", figure("slowest read", "s", [one.read.max_ms / 1e3 for one in seen]), 0.5, is_least=False),
            Target("P3", figure("memory", "MB", [one.peak.bytes / _MB for one in seen]), 200, is_least=False),
        ],
        _besides("1,000 at once", seen),
    )


async def five_thousand_waiting(stage: Stage, pace: Pace, between: Between) -> Measured:
    """P4: the provider takes fourteen."""
    seen = await _crowds(
        stage, pace, between, 5_000, 14.0,
        {"PROVIDER_MAX_CONCURRENCY": "5000", "CONNECTED_YOU_TIMEOUT_SECONDS": "60"},
    )  # fmt: skip
    return Measured(
        [
            Target("P4", figure("5,000 waiting: wall", "s", [one.bought.seconds for one in seen]), 28, is_least=False),
            Target("P4", figure("not provisioned", "", [5_000 - one.provisioned for one in seen]), 0, is_least=False),
            Target("P4", figure("false unknowns", "", [one.unknown for one in seen]), 0, is_least=False),
            Target("P4", figure("reads meanwhile: p99", "ms", [one.read.p99_ms for one in seen]), 100, is_least=False),
            Target("P4", figure("memory", "MB", [one.peak.bytes / _MB for one in seen]), 400, is_least=False),
        ],
        _besides("5,000 waiting", seen),
    )


def _besides(name: str, seen: Sequence[_Crowd]) -> list[Figure]:
    return [
        figure(f"{name}: failed answers and connections", "", [one.bought.not_ok + one.bought.cut for one in seen]),
        figure(f"{name}: reads", "", [one.read.requests for one in seen]),
        figure(f"{name}: reads, p50", "ms", [one.read.p50_ms for one in seen]),
        figure(f"{name}: reads, slowest", "ms", [one.read.max_ms for one in seen]),
    ]


async def _crowds(
    stage: Stage, pace: Pace, between: Between, number: int, latency_s: float, settings: dict[str, str]
) -> list[_Crowd]:
    _allow_descriptors(number)
    seen = []
    async with stage.supplier(latency_s) as supplier:
        for _ in range(pace.repetitions):
            between()
            async with stage.server(1, CONNECTED_YOU_BASE_URL=supplier.url, **settings) as server:
                orders = await stage.stock(number)
                over = asyncio.Event()
                asking = asyncio.create_task(
                    load(
                        server.shop.url, "paced", _READ_EACH_MS, _PLANS, clients=_READERS, seconds=_WITHIN_S, stop=over
                    )
                )
                async with peak_of(server.pid) as peak:
                    bought = await load(
                        server.shop.url, "once", orders[0], orders[-1],
                        clients=number, seconds=_WITHIN_S, key=stage.site.secret,
                    )  # fmt: skip
                over.set()
                read = checked(await asking)
                counts = [stage.count(status, orders[0], orders[-1]) for status in ("provisioned", "unknown")]
                seen.append(_Crowd(bought, read, peak, *counts))
                await stage.empty_queue()
    return seen


def _allow_descriptors(number: int) -> None:
    """A client's connection and a call to the provider are one each, in each process that holds them."""
    wanted = number * _DESCRIPTORS_EACH + _DESCRIPTORS_BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise TooFewDescriptors(
            f"{number:,} clients need {wanted:,} descriptors, and {hard:,} are allowed: ulimit -n {wanted}"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
