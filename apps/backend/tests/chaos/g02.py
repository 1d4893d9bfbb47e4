"""G2: API processes are killed (kill -9) at random instants while dozens of clients activate."""

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path

from app.services.esims.intent import reference_of
from tests.chaos.clients import Clients
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.stage import Stage, a_stage
from tests.chaos.swept import swept_attempts
from tests.processes.programs import until

_KILL_AFTER_S = (0.02, 0.1)
"""Counted from when both servers have answered a call."""

_SUPPLIER = {"slow_before-0.01": 1, "slow_before-0.03": 1, "slow_after-0.02": 1, "slow_after-0.05": 1}
"""It takes 10 to 50 ms, so that there are calls in flight; what it issues stands on its ledger at their end or beginning."""

_STOCK = 500


@dataclass
class _Siege:
    stage: Stage
    stock: list[int] = field(default_factory=list)
    stocking: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_over: bool = False
    started: int = 0
    clients: Clients = field(init=False)

    def __post_init__(self) -> None:
        self.clients = Clients(self.stage.site.secret, self._an_order)

    async def _an_order(self) -> int | None:
        if self.is_over:
            return None
        async with self.stocking:
            if not self.stock:
                self.stock = await self.stage.orders(_STOCK)
            return self.stock.pop()

    async def serve(self) -> None:
        """One server more, with a partner id of its own: an attempt then tells which process made it."""
        self.started += 1
        server = await self.stage.server(CONNECTED_YOU_PARTNER_ID=f"partner-{self.started}")
        self.clients.serving.append(server)

    async def kill_one(self, delay_s: float, victim: int) -> None:
        """Kills one of two servers and puts another in its place."""
        serving = self.clients.serving
        await until(lambda: self.clients.answering.issuperset(server.pid for server in serving))
        await asyncio.sleep(delay_s)
        await serving.pop(victim).kill()
        await self.serve()


async def run(
    folder: Path, *, n: int, seed: int, tick: Tick = no_tick, clients_at_once: int = 64, postgres_url: str | None = None
) -> Outcome:
    """
    Args:
        n: kills.
    """
    draw = random.Random(f"{seed}/kills")  # noqa: S311 - a schedule, not a secret
    kills = [(draw.uniform(*_KILL_AFTER_S), draw.randrange(2)) for _ in range(n)]
    outcome = Outcome()
    async with a_stage(folder, postgres_url=postgres_url) as stage:
        await stage.site.supplier.post("schedule", {"seed": seed, "weights": _SUPPLIER})
        siege = _Siege(stage)
        clients = siege.clients
        for _ in range(2):
            await siege.serve()
        activating = asyncio.create_task(clients.run(clients_at_once))
        for delay_s, victim in kills:
            await siege.kill_one(delay_s, victim)
            outcome.done += 1
            tick(1)
        siege.is_over = True
        await activating
        await stage.recover(clients.used, *clients.serving)
        disturbed = {reference_of(order_id) for order_id in clients.broken}
        outcome.verdict = await stage.judge(disturbed=disturbed, activated=clients.used)
        swept = await swept_attempts(stage.site.db)
    outcome.counts = clients.counts
    outcome.counts["activations"] = len(clients.used)
    outcome.counts["attempts left open"] = len(swept)
    outcome.counts["kills"] = outcome.done
    outcome.counts["kills under a call"] = len({attempt.partner_id for attempt in swept})
    outcome.require("kills under a call", n // 2)
    outcome.failures += [
        f"{attempt.reference} was swept although its server lived"
        for attempt in swept
        if attempt.reference not in disturbed
    ]
    return outcome
