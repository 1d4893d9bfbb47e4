"""G2: API processes are killed (kill -9) at random instants while 64 clients activate."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from app.services.esims.intent import reference_of
from tests.chaos.line import Heard, Line
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.stage import ForkedServer, Stage, a_stage
from tests.processes.programs import until

_CLIENTS = 64
_KILL_AFTER_S = (0.02, 0.1)
"""Counted from when both servers have answered a call."""

_SUPPLIER = {"slow_before-0.01": 1, "slow_before-0.03": 1, "slow_after-0.02": 1, "slow_after-0.05": 1}
"""It takes 10 to 50 ms, so that there are calls in flight; what it issues stands on its ledger at their end or beginning."""

_STOCK = 500
_ENDS = {200, 201, 409, 502}
_AGAIN_AFTER_S = 0.2

_LEFT_OPEN = text(
    "SELECT reference, partner_id FROM provisioning_attempts WHERE outcome = 'unknown' AND error LIKE 'no answer was stored%'"
)
"""By a process that died between intent and answer."""


@dataclass
class _Siege:
    """
    Attributes:
        serving: the servers that clients may call.
        at_work: the processes that have answered a call.
        broken: orders whose server died under a call.
    """

    stage: Stage
    serving: list[ForkedServer] = field(default_factory=list)
    started: int = 0
    at_work: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    stock: list[int] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)
    is_over: bool = False
    calls_again: set[asyncio.Task[None]] = field(default_factory=set)
    stocking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def client(self, number: int) -> None:
        """Activates one order after the other, each once."""
        draw = random.Random(number)  # noqa: S311 - which server it calls doesn't matter
        lines: dict[int, Line] = {}
        while not self.is_over:
            order_id = await self._an_order()
            server = draw.choice(self.serving)
            if await self._call(lines, server, order_id) is None:
                again = asyncio.create_task(self._until_it_ends(order_id))
                self.calls_again.add(again)
                again.add_done_callback(self.calls_again.discard)
        for line in lines.values():
            line.close()

    async def _an_order(self) -> int:
        async with self.stocking:
            if not self.stock:
                self.stock = await self.stage.orders(_STOCK)
            self.used.append(self.stock.pop())
            return self.used[-1]

    async def _until_it_ends(self, order_id: int) -> None:
        """
        On a server that lives, and not waiting there: an attempt that died with its server is open until the sweep comes, and 64
        clients that all wait for that would leave nothing to kill. `recover` waits for it at the end.
        """
        lines: dict[int, Line] = {}
        while (heard := await self._call(lines, self.serving[-1], order_id, "Prefer: respond-async\r\n")) is None or (
            heard.status not in _ENDS | {202}
        ):
            await asyncio.sleep(_AGAIN_AFTER_S)
        for line in lines.values():
            line.close()

    async def _call(
        self, lines: dict[int, Line], server: ForkedServer, order_id: int, extra: str = ""
    ) -> Heard | None:
        """None where the connection broke."""
        try:
            if server.pid not in lines or not lines[server.pid].is_open:
                lines[server.pid] = await Line.open(server.shop.url)
            body = {"order_id": order_id}
            heard = await lines[server.pid].ask("POST", "/api/esims/activate", self.stage.site.secret, body, extra)
        except OSError:
            self.counts["connections broken"] += 1
            self.broken.add(order_id)
            return None
        self.at_work.add(server.pid)
        self.counts[f"{heard.status} {heard.problem or ''}".strip()] += 1
        return heard

    async def serve(self) -> None:
        """One server more, with a partner id of its own: an attempt then tells which process made it."""
        self.started += 1
        self.serving.append(await self.stage.server(CONNECTED_YOU_PARTNER_ID=f"partner-{self.started}"))

    async def kill_one(self, delay_s: float, victim: int) -> None:
        """Kills one of two servers and puts another in its place."""
        await until(lambda: all(server.pid in self.at_work for server in self.serving))
        await asyncio.sleep(delay_s)
        dead = self.serving.pop(victim)
        await dead.kill()
        self.counts["kills"] += 1
        await self.serve()


async def run(
    folder: Path, *, n: int, seed: int, tick: Tick = no_tick, postgres_url: str | None = None
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
        for _ in range(2):
            await siege.serve()
        clients = [asyncio.create_task(siege.client(number)) for number in range(_CLIENTS)]
        for delay_s, victim in kills:
            await siege.kill_one(delay_s, victim)
            outcome.done += 1
            tick(1)
        siege.is_over = True
        await asyncio.gather(*clients)
        await asyncio.gather(*siege.calls_again)
        await stage.recover(siege.used, *siege.serving)
        disturbed = {reference_of(order_id) for order_id in siege.broken}
        outcome.verdict = await stage.judge(disturbed=disturbed, activated=siege.used)
        outcome.counts = siege.counts
        outcome.counts["activations"] = len(siege.used)
        async with stage.site.db.read() as connection:
            left_open = (await connection.execute(_LEFT_OPEN)).all()
    outcome.counts["attempts left open"] = len(left_open)
    outcome.failures += [
        f"{row.reference} was swept although its server lived" for row in left_open if row.reference not in disturbed
    ]
    outcome.counts["kills under a call"] = len({row.partner_id for row in left_open})
    outcome.require("kills", n)
    outcome.require("kills under a call", n // 2)
    return outcome
