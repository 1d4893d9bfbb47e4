"""
G1: the fault matrix. Three servers (killed ones are replaced at once), a worker, PostgreSQL, proxies before it and the supplier are
processes; every fault of `matrix.FAULTS` is struck at every moment, and counted where it is seen to happen.
"""

import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from app.main import GAVE_UP
from app.services.esims.intent import reference_of
from tests.chaos.acts import Acts, Slot
from tests.chaos.db_proxy import DatabaseProxy
from tests.chaos.matrix import Cell, Do, Side, cells, schedule
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.shoppers import Shoppers
from tests.chaos.stage import Stage, a_stage
from tests.chaos.strikes import KILL, RAISE
from tests.chaos.umpire import Umpire
from tests.pgbouncer import pgbouncer_before

_CLIENTS = {Side.PROCESS: 4, Side.DATABASE: 6, Side.SUPPLIER: 24}
"""
Of each side's orders. A server that is killed takes its other calls with it, and with them what was to happen to those: so few
of the others are on the one that is killed all the time, and none of those that take long.
"""

_TIMEOUT_S = 2
_WAIT_S = 4
"""Longer than a call takes. Who waits for one that died with its server is told sooner than the sweep comes."""

_CLAIMED_OF = 150
"""One in so many orders meets each cell at least: of 1,500 orders 10, of 25,000 more than the 50 that are asked for."""

_SPARE = 10
"""Orders of each cell in reserve at least: those, too, may miss their moment, and of two both did."""


async def run(folder: Path, *, n: int, seed: int, tick: Tick = no_tick, is_through_pgbouncer: bool = False) -> Outcome:
    """
    Args:
        n: activations; some more where a cell didn't come about often enough.
        is_through_pgbouncer: puts it between the proxies and PostgreSQL (G18).
    """
    plan, reserve = schedule(n, seed), cells(rare=False) * max(n // _CLAIMED_OF, _SPARE)
    async with a_stage(
        folder, CONNECTED_YOU_TIMEOUT_SECONDS=str(_TIMEOUT_S), ACTIVATION_WAIT_SECONDS=str(_WAIT_S)
    ) as stage:
        order_ids = await stage.orders(len(plan) + len(reserve))
        with ExitStack() as between:
            url = stage.site.settings["DATABASE_URL"]
            pgbouncer = between.enter_context(pgbouncer_before(url)) if is_through_pgbouncer else None
            before = pgbouncer.url if pgbouncer else url
            slots = {side: Slot(stage, side, between.enter_context(DatabaseProxy(before))) for side in Side}
            cells_of = dict(zip(order_ids, [*plan, *reserve], strict=True))
            acts = Acts(stage, slots, {reference_of(order_id): cell.name for order_id, cell in cells_of.items()})
            async with Umpire(acts.table()) as umpire:
                stage.plan.write(
                    cell.strike(reference_of(order_id), umpire.path) for order_id, cell in cells_of.items()
                )
                await stage.worker()
                play = _Play(stage, acts, umpire, cells_of, Shoppers(stage, acts, cells_of), n // _CLAIMED_OF)
                await play.activate(order_ids[:n], _CLIENTS, tick)
                await play.make_up(order_ids[n:])
                outcome = await play.outcome()
                outcome.failures += pgbouncer.left_over() if pgbouncer else []
                return outcome


@dataclass
class _Play:
    """
    Attributes:
        claimed: how often each cell is to be seen.
        activated: the orders whose turn has come.
    """

    stage: Stage
    acts: Acts
    umpire: Umpire
    cells_of: dict[int, Cell]
    shoppers: Shoppers
    claimed: int
    activated: list[int] = field(default_factory=list)

    async def activate(self, order_ids: Sequence[int], clients: Mapping[Side, int], tick: Tick) -> None:
        """To the end of each."""
        self.activated += order_ids
        scripts = {reference_of(order_id): [self.cells_of[order_id].script] for order_id in order_ids}
        await self.stage.site.supplier.post(
            "scripts", {name: faults for name, faults in scripts.items() if any(faults)}
        )
        await self.shoppers.activate(order_ids, clients, tick)
        await self.shoppers.see_to_the_end(order_ids)
        await self.acts.are_over()

    async def make_up(self, reserve: Sequence[int]) -> None:
        """
        Orders may miss their moment when others' servers die, and how many do is a matter of how quick the machine is. What
        hasn't come about often enough then happens to orders of the reserve, with hardly anybody beside them.
        """
        left = list(reserve)
        while missing := self._missing(await self.observed()):
            chosen = []
            for order_id in left:
                name = self.cells_of[order_id].name
                if missing[name] > 0:
                    missing[name] -= 1
                    chosen.append(order_id)
            if not chosen:
                return
            left = [order_id for order_id in left if order_id not in chosen]
            await self.activate(chosen, dict.fromkeys(Side, 1), no_tick)

    def _missing(self, seen: Counter[str]) -> Counter[str]:
        return +Counter({cell.name: self.claimed - seen[cell.name] for cell in cells(rare=False)})

    def _ended(self, *statuses: int) -> set[int]:
        servers = [server for slot in self.acts.slots.values() for server in slot.servers]
        return {server.pid for server in servers if server.status in statuses}

    def disturbed(self) -> set[str]:
        """Orders whose process died, gave up or failed under them."""
        died = self._ended(-signal.SIGKILL, GAVE_UP)
        failed = {struck.reference for struck in self.stage.plan.struck() if struck.strike.do == RAISE}
        return failed | {reference for reference, pids in self.shoppers.left_with.items() if pids & died}

    async def observed(self) -> Counter[str]:
        """How often each cell has really happened."""
        met = {(request["reference"], request["fault"]) for request in await self.stage.requests()}
        killed = self._ended(-signal.SIGKILL)
        counts: Counter[str] = Counter()
        for slot in self.acts.slots.values():
            counts.update({name: number for name, number in slot.proxy.counts().items() if ", " in name})
        cells_of = {reference_of(order_id): cell for order_id, cell in self.cells_of.items()}
        for struck in self.stage.plan.struck():
            fault = cells_of[struck.reference].fault
            if fault.do == Do.LOSE_COMMIT:
                continue  # the proxy knows
            if fault.do == KILL:
                has_happened = struck.pid in killed
            elif fault.do == RAISE:
                has_happened = True
            elif fault.side is Side.SUPPLIER:
                # That its connections are cut is known; there may have been none, after another order's moment.
                has_happened = (struck.reference, fault.script.partition("-")[0]) in met
            else:
                has_happened = struck.reference in self.umpire.happened
            counts[struck.strike.name] += has_happened
        return counts

    async def outcome(self) -> Outcome:
        outcome = Outcome(done=len(self.activated), counts=await self.observed())
        for cell in cells(rare=False):
            outcome.require(cell.name, self.claimed)
        for fault in {cell.fault for cell in self.cells_of.values() if cell.fault.is_rare}:
            if not any(name.startswith(f"{fault.name}, ") for name in +outcome.counts):
                outcome.failures.append(f"{fault.name} never happened")
        for server in self.acts.asked_to_end:
            # GAVE_UP where its database, which is cut off and refuses again and again, let it finish no job at hand.
            if (status := await server.ended()) not in {0, GAVE_UP, -signal.SIGKILL}:
                outcome.failures.append(f"a server that was asked to end did so with {status}")
        outcome.failures += self.umpire.complaints
        outcome.verdict = await self.stage.judge(disturbed=self.disturbed(), activated=self.activated)
        statuses = await self.stage.statuses()
        outcome.figures = dict(Counter(statuses[order_id] for order_id in self.activated))
        outcome.figures["servers forked"] = sum(len(slot.servers) for slot in self.acts.slots.values())
        return outcome
