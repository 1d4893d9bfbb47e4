"""A storefront that goes on at its own pace whatever the servers do, and a look at who waits for locks meanwhile."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import psycopg

from tests.api.serving import Reply, Shop, a_wish
from tests.processes.programs import until

_LOOK_EVERY_S = 0.01

# `waitstart` is missing for a moment after the wait has begun.
_WAITING = """
    SELECT pid, l.waitstart, extract(epoch FROM clock_timestamp() - l.waitstart), l.locktype = 'relation'
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE NOT l.granted AND l.waitstart IS NOT NULL AND l.locktype IN ('relation', 'virtualxid')
      AND a.application_name = 'tribi-migrate' AND a.datname = current_database()
"""


@dataclass
class Traffic:
    """
    Places orders, activates them and reads their eSIMs, so many calls a second, each on a connection of its own and none again.

    Attributes:
        failures: a sentence for each call that had no good answer.
        placed: the orders.
        answered: calls that had a good answer.
    """

    shop: Shop
    sku: str
    per_s: float
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    placed: list[int] = field(default_factory=list)
    slowest_s: float = 0
    answered: int = 0
    _to_activate: deque[int] = field(default_factory=deque)
    _to_read: deque[int] = field(default_factory=deque)
    _is_over: bool = False

    async def go_on(self) -> None:
        """Until `end`; each order that was placed is activated and read by then."""
        calls: set[asyncio.Task[None]] = set()
        begun, number = time.monotonic(), 0
        while not self._is_over or calls or self._to_activate or self._to_read:
            if (call := self._next()) is not None:
                task = asyncio.create_task(call)
                calls.add(task)
                task.add_done_callback(calls.discard)
            number += 1
            await asyncio.sleep(max(begun + number / self.per_s - time.monotonic(), 0))

    def end(self) -> None:
        self._is_over = True

    async def calls_more(self, number: int) -> None:
        """Waits until so many more have been answered; there is nothing to wait for once one has failed."""
        goal = self.answered + number
        await until(lambda: self.answered >= goal or self.failures, 120)

    def _next(self) -> Coroutine[Any, Any, None] | None:
        if self._to_activate:
            return self._activate(self._to_activate.popleft())
        if self._to_read:
            return self._read(self._to_read.popleft())
        return None if self._is_over else self._place()

    async def _place(self) -> None:
        if reply := await self._heard("place", self.shop.place(a_wish(self.sku)), {201}):
            order_id = int(reply.json()["id"])
            self.placed.append(order_id)
            self._to_activate.append(order_id)

    async def _activate(self, order_id: int) -> None:
        if reply := await self._heard("activate", self.shop.activate(order_id), {201}):
            self._to_read.append(int(reply.json()["id"]))

    async def _read(self, esim_id: int) -> None:
        await self._heard("read", self.shop.get(f"/api/esims/{esim_id}"), {200})

    async def _heard(self, what: str, call: Coroutine[Any, Any, Reply], good: set[int]) -> Reply | None:
        begun = time.monotonic()
        self.counts[f"calls: {what}"] += 1
        try:
            reply = await call
        except aiohttp.ClientError as error:
            self.failures.append(f"a call ({what}) was cut off: {type(error).__name__}")
            return None
        self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
        if reply.status not in good:
            self.failures.append(f"a call ({what}) was answered {reply.status}: {reply.body[:300]!r}")
            return None
        self.answered += 1
        return reply


@dataclass
class LockWaits:
    """
    What a migration waits for tables.

    Attributes:
        seen: the seconds of each wait, as far as they were seen; by process and beginning.
        is_waiting_for_ends: what is done concurrently has waited for transactions to end, which holds up nobody else.
    """

    url: str
    seen: dict[tuple[int, object], float] = field(default_factory=dict)
    is_waiting_for_ends: bool = False

    async def keep_looking(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            while True:
                for pid, since, seconds, is_for_table in await (await connection.execute(_WAITING)).fetchall():
                    if is_for_table:
                        self.seen[pid, since] = float(seconds)
                    else:
                        self.is_waiting_for_ends = True
                await asyncio.sleep(_LOOK_EVERY_S)
