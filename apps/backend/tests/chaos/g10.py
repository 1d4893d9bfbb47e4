"""G10, stale keep-alive: a supplier closes idle connections after a time, and the next order comes in just that moment.

Each lane has a line to the supplier of its own, so that no other lane's order keeps its connection from being idle.
"""

import asyncio
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.house import House
from app.services.esim_providers import PreparedOrder
from app.services.esim_providers.connected_you.client import Line
from app.services.esim_providers.connected_you.wire import Wire
from app.services.esim_providers.statuses import Exchange
from tests.chaos.oracle import Evidence, judge
from tests.chaos.outcome import Outcome, Tick
from tests.chaos.purchases import API_KEY, a_desk, house_of, unforeseen
from tests.chaos.stage import a_stage
from tests.stand_in import Issued, read_ledger
from tests.stand_in.certificates import Certificates
from tests.stand_in.elsewhere import StandInChild

CLOSES_AFTER_S = (1.0, 5.0, 15.0)
PER_SECOND = 4
"""Orders a second at each supplier: as many lanes as that takes."""

JITTER_S = 0.01
"""How far from the closing instant an order may be written: enough for the two to meet in either sequence on a loopback."""

_PATIENT_S = 20.0
_EARLY_S = 0.4
"""How long before the instant an activation starts: time for its intent. The line then waits for the instant itself."""


class OnTheDot:
    """A `Line` that sends each order at an instant of its choice: so long after the answer to the one before."""

    is_live = True

    def __init__(self, line: Line) -> None:
        self._line = line
        self._answered_at: float | None = None
        self.idle_s = 0.0
        self.spaced = 0
        """Orders that came after another."""
        self.hits = 0
        """Those of them that went out within the jitter of their instant."""

    def use_api_key(self, api_key: str) -> None:
        self._line.use_api_key(api_key)

    async def send(self, order: PreparedOrder, may_send: Callable[[], bool]) -> Exchange:
        clock = asyncio.get_running_loop().time
        if self._answered_at is not None:
            at = self._answered_at + self.idle_s
            await asyncio.sleep(at - clock())
            self.spaced += 1
            self.hits += clock() - at <= JITTER_S
        try:
            return await self._line.send(order, may_send)
        finally:
            self._answered_at = clock()

    async def close(self) -> None:
        await self._line.close()


@dataclass(frozen=True)
class Seen:
    """What one supplier knows."""

    issued: list[Issued]
    received: list[dict[str, Any]]
    connections: int


async def run(folder: Path, *, n: int, seed: int, tick: Tick) -> Outcome:
    """Spaced activations in an installation of their own."""
    async with a_stage(folder) as stage:
        outcome = await spaced(house_of(stage), folder, n=n, seed=seed, tick=tick)
    outcome.require("on the dot", outcome.counts["spaced"] // 5)  # a busy machine comes late for many
    return outcome


async def spaced(
    house: House,
    folder: Path,
    *,
    n: int,
    seed: int,
    tick: Tick,
    closes_after_s: Sequence[float] = CLOSES_AFTER_S,
    per_second: int = PER_SECOND,
) -> Outcome:
    """
    `n` activations, divided among suppliers that close after each of these times, with TLS and without.

    `figures`: `connections_per_order`.
    """
    outcome = Outcome(done=n)
    certificates = Certificates(folder)
    suppliers = [(seconds, is_secure) for seconds in closes_after_s for is_secure in (False, True)]
    shares = [len(range(number, n, len(suppliers))) for number in range(len(suppliers))]

    async def play(seconds: float, is_secure: bool, share: int) -> Seen:
        name = f"closes after {seconds:g} s, {'TLS' if is_secure else 'plain'}"
        ledger = folder / f"{name}.jsonl"
        arguments: list[str | Path] = ["--ledger", ledger, "--no-fsync", "--close-idle-after-s", str(seconds)]
        tls = certificates.client_context() if is_secure else None
        if is_secure:
            arguments += ["--tls", certificates.good.certificate, certificates.good.key]
        async with StandInChild("--api-key", API_KEY, *arguments, tls=tls) as supplier:
            orders = iter(range(share))
            draws = [random.Random(f"{seed}/{name}/{lane}") for lane in range(math.ceil(per_second * seconds))]  # noqa: S311 - reproducible
            lines = [OnTheDot(Wire(API_KEY, _PATIENT_S, ssl_context=tls)) for _ in draws]
            crashes = await asyncio.gather(
                *(
                    _lane(house, supplier.url, line, orders, draw, seconds, tick)
                    for line, draw in zip(lines, draws, strict=True)
                )
            )
            outcome.counts["spaced"] += sum(line.spaced for line in lines)
            outcome.counts["on the dot"] += sum(line.hits for line in lines)
            outcome.failures.extend(crash for found in crashes for crash in found)
            state, received = await supplier.get("state"), await supplier.get("requests")
        outcome.counts[name] = state["requests"]
        outcome.require(name, share)
        outcome.failures.extend(f"the stand-in: {breach}" for breach in state["violations"])
        return Seen(read_ledger(ledger), received, state["connections"])

    with unforeseen() as complaints:
        seen = await asyncio.gather(*(play(*which, share) for which, share in zip(suppliers, shares, strict=True)))
    outcome.failures += complaints
    issued = [line for each in seen for line in each.issued]
    received = [request for each in seen for request in each.received]
    outcome.verdict = await judge(house.db, house.vault, Evidence(issued, received))
    if outcome.verdict.false_unknowns:
        outcome.failures.append(f"{outcome.verdict.false_unknowns} false unknowns")
    if len(issued) != n:
        outcome.failures.append(f"{n} orders, and {len(issued)} eSIMs")
    outcome.figures["connections_per_order"] = round(sum(each.connections for each in seen) / n, 3)
    return outcome


async def _lane(
    house: House,
    url: str,
    line: OnTheDot,
    orders: Iterator[int],
    draw: random.Random,
    closes_after_s: float,
    tick: Tick,
) -> list[str]:
    clock = asyncio.get_running_loop().time
    async with a_desk(house, url, line, _PATIENT_S) as desk:
        # Lanes that start apart stay apart: many at the same instant would keep one another from being on the dot.
        start_at = clock() + draw.uniform(0, closes_after_s)
        for _ in orders:
            order_id = await desk.order()
            await asyncio.sleep(start_at - clock())
            line.idle_s = closes_after_s + draw.uniform(-JITTER_S, JITTER_S)
            await desk.activate(order_id)
            start_at = clock() + closes_after_s - _EARLY_S
            found = await desk.on_file(order_id)
            if found.status != "provisioned":
                desk.crashes.append(f"order {order_id} is {found.status}")
            tick(1)
        return desk.crashes
