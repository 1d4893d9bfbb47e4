"""The dispatcher of a process: begins what is due as soon as there is room for it, and finishes what it began."""

import asyncio
from collections import Counter

import structlog

from app.errors import DatabaseUnavailable
from app.house import House
from app.services.webhooks.deliver import AT_ONCE, Delivery, claim, deliver
from app.services.webhooks.line import Line

log = structlog.get_logger()


class Dispatcher:
    """Deliveries under way are tasks of this process, `AT_ONCE` an endpoint at most."""

    def __init__(self, house: House, line: Line) -> None:
        self._house = house
        self._line = line
        self._under_way: dict[asyncio.Task[None], int] = {}
        """By task: to which endpoint."""
        self._full: set[int] = set()
        """Endpoints for which all places were taken when it was last looked: something may wait for the next one."""
        self._room = asyncio.Event()

    async def begin_due(self) -> int:
        """
        Returns:
            How many deliveries it has begun.

        Raises:
            DatabaseUnavailable: none.
        """
        self._room.clear()
        busy = Counter(self._under_way.values())
        async with self._house.db.read() as connection:  # one statement, which needs no transaction around it
            claimed = await claim(connection, self._house.keyring, busy)
        for delivery in claimed:
            task = asyncio.create_task(self._deliver(delivery))
            self._under_way[task] = delivery.endpoint_id
            task.add_done_callback(self._done)
            busy[delivery.endpoint_id] += 1
        self._full = {endpoint_id for endpoint_id, under_way in busy.items() if under_way >= AT_ONCE}
        return len(claimed)

    async def until_room(self, at_most_s: float) -> None:
        """Returns as soon as an endpoint that was full has room again, for which something may wait."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._room.wait()
        except TimeoutError:
            pass

    async def finish(self) -> None:
        """Waits for what is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _done(self, task: asyncio.Task[None]) -> None:
        if self._under_way.pop(task) in self._full:
            self._room.set()

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await deliver(self._house, self._line, delivery)
        except DatabaseUnavailable as away:
            log.warning("webhooks.not_noted", delivery_id=delivery.id, reason=str(away), effect="it is sent again")
        except Exception:
            log.exception(
                "webhooks.delivery_broke", delivery_id=delivery.id
            )  # once its lease is over it is tried again
