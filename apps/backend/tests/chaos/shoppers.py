"""The clients of the fault matrix: they ask until an order has come to an end, whoever dies meanwhile."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from app.errors import DatabaseUnavailable
from app.services.esims.intent import reference_of
from tests.api.serving import Reply
from tests.chaos.acts import Acts
from tests.chaos.matrix import Cell, Do, Side
from tests.chaos.outcome import Tick, no_tick
from tests.chaos.stage import ForkedServer, Stage
from tests.processes.installations import sent

_TRIES = 8
_PAUSE_S = 0.25
_RECOVERED_WITHIN_S = 240


@dataclass
class Shoppers:
    """
    Attributes:
        cells_of: what is to happen to an order.
        left_with: which processes may have gone on working on an order, or died of it, when its client had heard the last of them.
    """

    stage: Stage
    acts: Acts
    cells_of: Mapping[int, Cell]
    left_with: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    _have_hung_up: set[str] = field(default_factory=set)

    async def activate(self, order_ids: Collection[int], clients: Mapping[Side, int], tick: Tick = no_tick) -> None:
        """
        Each order is activated until it is known how it ended, or that only the sweep can tell.

        Args:
            clients: how many at once for each side's orders.
        """

        async def client(waiting: Iterator[int]) -> None:
            for order_id in waiting:
                await self._activate(order_id)
                tick(1)

        shopping = []
        for side, number in clients.items():
            # One queue for all clients of a side.
            waiting = iter([order_id for order_id in order_ids if self.cells_of[order_id].fault.side is side])
            shopping += [client(waiting) for _ in range(number)]
        await asyncio.gather(*shopping)

    async def _activate(self, order_id: int) -> None:
        reference, fault = reference_of(order_id), self.cells_of[order_id].fault
        # Some meet a server that is killed and a database that fails.
        is_beside_the_killed = fault.side is Side.DATABASE and order_id % 4 == 0
        slot = self.acts.slots[Side.PROCESS if is_beside_the_killed else fault.side]
        for _ in range(_TRIES):
            server = await slot.current()
            self.left_with[reference].add(server.pid)
            try:
                if fault.do == Do.HANG_UP and reference not in self._have_hung_up:
                    await self._hang_up(server, order_id)
                    return  # nobody is told how it ended
                reply = await server.activate(order_id)
                if reply.status in {200, 201}:
                    self.left_with[reference].discard(server.pid)
                if _is_end(reply):
                    return
            except (aiohttp.ClientConnectorError, ConnectionRefusedError):
                pass  # it had just been killed
            except (aiohttp.ClientConnectionError, ConnectionError):
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
            self._have_hung_up.add(reference)
            line.set_result(writer)
            try:
                await reader.read(1)
            finally:
                writer.transport.abort()
        finally:
            line.cancel()

    async def see_to_the_end(self, order_ids: Collection[int]) -> None:
        """What is pending is activated again (nothing was sent), what is under way is waited for."""
        deadline = asyncio.get_running_loop().time() + _RECOVERED_WITHIN_S
        while asyncio.get_running_loop().time() < deadline:
            statuses: dict[int, str] = {}
            with suppress(DatabaseUnavailable):
                statuses = await self.stage.statuses()
            pending = [order_id for order_id in order_ids if statuses.get(order_id) == "pending"]
            if statuses and not pending and all(statuses[order_id] != "provisioning" for order_id in order_ids):
                return
            await self.activate(pending, dict.fromkeys(Side, 2))
            await asyncio.sleep(_PAUSE_S)


def _is_end(reply: Reply) -> bool:
    """Whether asking again would bring nothing new."""
    if reply.status in {200, 201, 202}:
        return True
    return reply.problem[1] in {"activation-outcome-unknown", "provider-refused"}
