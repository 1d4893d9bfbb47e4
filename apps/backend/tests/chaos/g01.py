"""
G1: the fault matrix. Two servers (killed ones are replaced at once), a worker, PostgreSQL, proxies before it and the supplier are
processes; every fault of `matrix.FAULTS` is struck at every moment, and counted where it is seen to happen.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from app.errors import DatabaseUnavailable
from app.main import GAVE_UP
from app.services.esims.intent import reference_of
from tests.api.serving import Reply
from tests.chaos.acts import Acts, Slot
from tests.chaos.db_proxy import DatabaseProxy
from tests.chaos.matrix import Cell, Do, Side, cells, schedule
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.stage import ForkedServer, Stage, a_stage
from tests.chaos.strikes import KILL, RAISE
from tests.chaos.umpire import Umpire
from tests.processes.installations import sent

_CLIENTS = {Side.PROCESS: 12, Side.DATABASE: 12, Side.SUPPLIER: 24}
"""Of each side's orders. Few on the server that is killed all the time, or its deaths would hide what else was to happen there."""

_TIMEOUT_S = 2
_WAIT_S = 4
"""Longer than a call takes. Who waits for one that died with its server is told sooner than the sweep comes."""

_TRIES = 8
_PAUSE_S = 0.25
_RECOVERED_WITHIN_S = 240
_CLAIMED_OF = 150
"""One in so many orders meets each cell at least: of 1,500 orders 10, of 25,000 more than the 50 that are asked for."""


async def run(folder: Path, *, n: int, seed: int, tick: Tick = no_tick) -> Outcome:
    """
    Args:
        n: activations.
    """
    async with a_stage(
        folder, CONNECTED_YOU_TIMEOUT_SECONDS=str(_TIMEOUT_S), ACTIVATION_WAIT_SECONDS=str(_WAIT_S)
    ) as stage:
        cells_of = dict(zip(await stage.orders(n), schedule(n, seed), strict=True))
        for order_id, cell in cells_of.items():
            if cell.script:
                await stage.site.script(order_id, cell.script)
        with ExitStack() as proxies:
            slots = [
                Slot(stage, name, proxies.enter_context(DatabaseProxy(stage.site.settings["DATABASE_URL"])))
                for name in ("tribi-left", "tribi-right")
            ]
            acts = Acts(stage, slots, {reference_of(order_id): cell.name for order_id, cell in cells_of.items()})
            async with Umpire(acts.table()) as umpire:
                stage.plan.write(
                    cell.strike(reference_of(order_id), umpire.path) for order_id, cell in cells_of.items()
                )
                play = _Play(stage, acts, umpire, cells_of)
                await stage.worker()
                await play.everybody(list(cells_of), tick)
                await play.until_all_have_ended()
                await acts.are_over()
                return await play.outcome()


def _is_end(reply: Reply) -> bool:
    """Whether asking again would bring nothing new."""
    if reply.status in {200, 201, 202}:
        return True
    return reply.problem[1] in {"activation-outcome-unknown", "provider-refused"}


@dataclass
class _Play:
    stage: Stage
    acts: Acts
    umpire: Umpire
    cells_of: dict[int, Cell]
    cut_off: dict[str, int] = field(default_factory=dict)
    """Orders whose client hung up, and the process that went on working on them."""
    broken: set[str] = field(default_factory=set)
    """Orders whose server died under a call."""

    # --- the clients

    async def everybody(self, order_ids: Sequence[int], tick: Tick) -> None:
        """Each order is activated until it is known how it ended, or that only the sweep can tell."""

        async def client(waiting: Iterator[int]) -> None:
            for order_id in waiting:
                await self._activate(order_id)
                tick(1)

        clients = []
        for side, number in _CLIENTS.items():
            # One queue for all clients of a side.
            waiting = iter([order_id for order_id in order_ids if self.cells_of[order_id].fault.side is side])
            clients += [client(waiting) for _ in range(number)]
        await asyncio.gather(*clients)

    async def _activate(self, order_id: int) -> None:
        reference, fault = reference_of(order_id), self.cells_of[order_id].fault
        slot = self.acts.slots[fault.side is Side.SUPPLIER]
        for _ in range(_TRIES):
            server = await slot.current()
            try:
                if fault.do == Do.HANG_UP and reference not in self.cut_off:
                    await self._hang_up(server, order_id)
                    return  # nobody is told how it ended
                if _is_end(await server.activate(order_id)):
                    return
            except (aiohttp.ClientConnectorError, ConnectionRefusedError):
                pass  # it had just been killed
            except (aiohttp.ClientConnectionError, ConnectionError):
                self.broken.add(reference)
                if not await self._is_pending(order_id):
                    return
            await asyncio.sleep(_PAUSE_S)

    async def _is_pending(self, order_id: int) -> bool:
        with suppress(DatabaseUnavailable):
            return await self.stage.site.status(order_id) == "pending"
        return False

    async def _hang_up(self, server: ForkedServer, order_id: int) -> None:
        """Asks; when the order has come to its moment the umpire cuts the line."""
        reference = reference_of(order_id)
        line = self.acts.lines[reference] = asyncio.get_running_loop().create_future()
        try:
            reader, writer = await asyncio.open_connection(sock=await sent(server, order_id))
            self.cut_off[reference] = server.pid
            line.set_result(writer)
            try:
                await reader.read(1)
            finally:
                writer.transport.abort()
        finally:
            line.cancel()

    async def until_all_have_ended(self) -> None:
        """What is pending is activated again (nothing was sent), what is under way is waited for."""
        deadline = asyncio.get_running_loop().time() + _RECOVERED_WITHIN_S
        while asyncio.get_running_loop().time() < deadline:
            try:
                statuses = await self.stage.statuses()
            except DatabaseUnavailable:
                statuses = dict.fromkeys(self.cells_of, "provisioning")
            pending = [order_id for order_id in self.cells_of if statuses[order_id] == "pending"]
            if not pending and "provisioning" not in statuses.values():
                return
            await self.everybody(pending, no_tick)
            await asyncio.sleep(_PAUSE_S)

    # --- what is seen

    def _killed(self) -> set[int]:
        servers = [server for slot in self.acts.slots for server in slot.servers]
        return {server.pid for server in servers if server.status == -signal.SIGKILL}

    def disturbed(self) -> set[str]:
        """Orders whose server was killed, or failed, under them."""
        killed = self._killed()
        failed = {struck.reference for struck in self.stage.plan.struck() if struck.strike.do == RAISE}
        return self.broken | failed | {reference for reference, pid in self.cut_off.items() if pid in killed}

    async def observed(self) -> Counter[str]:
        """How often each cell has really happened."""
        met = {(request["reference"], request["fault"]) for request in await self.stage.requests()}
        killed = self._killed()
        counts: Counter[str] = Counter()
        for slot in self.acts.slots:
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
            else:
                has_happened = struck.reference in self.umpire.happened
            if fault.side is Side.SUPPLIER:
                has_happened &= (struck.reference, fault.script.partition("-")[0]) in met
            counts[struck.strike.name] += has_happened
        return counts

    async def outcome(self) -> Outcome:
        n = len(self.cells_of)
        outcome = Outcome(done=n, counts=await self.observed())
        for cell in cells(rare=False):
            outcome.require(cell.name, n // _CLAIMED_OF)
        for fault in {cell.fault for cell in self.cells_of.values() if cell.fault.is_rare}:
            if not any(name.startswith(f"{fault.name}, ") for name in +outcome.counts):
                outcome.failures.append(f"{fault.name} never happened")
        for server in self.acts.asked_to_end:
            # GAVE_UP where its database, which is cut off and refuses again and again, let it finish no job at hand.
            if (status := await server.ended()) not in {0, GAVE_UP, -signal.SIGKILL}:
                outcome.failures.append(f"a server that was asked to end did so with {status}")
        outcome.failures += self.umpire.complaints
        outcome.verdict = await self.stage.judge(disturbed=self.disturbed())
        outcome.figures = dict(Counter((await self.stage.statuses()).values()))
        outcome.figures["servers forked"] = sum(len(slot.servers) for slot in self.acts.slots)
        return outcome
