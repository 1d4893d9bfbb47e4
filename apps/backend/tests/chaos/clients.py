"""Clients that activate orders, each once; on a broken connection again, until it has an end."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.chaos.line import Heard, Line
from tests.processes.installations import Server

_ENDS = {200, 201, 409, 502}
_AGAIN_AFTER_S = 0.2

Lines = dict[int, Line]
"""A client's connections, by the server's process."""


@dataclass
class Clients:
    """
    Attributes:
        secret: of a service key.
        next_order: the order that a client takes up; None when there is no more.
        serving: the servers that may be called.
        answering: the processes that have answered a call.
        used: the orders so far.
        broken: those whose server died under a call.
        counts: of what was heard.
    """

    secret: str
    next_order: Callable[[], Awaitable[int | None]]
    serving: list[Server] = field(default_factory=list)
    answering: set[int] = field(default_factory=set)
    used: list[int] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    async def run(self, number: int) -> None:
        """So many at once, until there are no more orders."""
        again: set[asyncio.Task[None]] = set()
        await asyncio.gather(*(self._client(nth, again) for nth in range(number)))
        await asyncio.gather(*again)

    async def _client(self, nth: int, again: set[asyncio.Task[None]]) -> None:
        draw = random.Random(nth)  # noqa: S311 - which server it calls doesn't matter
        lines: Lines = {}
        while (order_id := await self.next_order()) is not None:
            self.used.append(order_id)
            heard = await self._call(lines, draw.choice(self.serving), order_id)
            if heard is None or heard.status not in _ENDS:
                again.add(asyncio.create_task(self._until_it_ends(order_id)))
        _close(lines)

    async def _until_it_ends(self, order_id: int) -> None:
        """
        On a server that lives, and not waiting there: an attempt that died with its server is open until the sweep comes, and if
        all clients waited for that there would be nothing left to kill. `Stage.recover` waits for it.
        """
        lines: Lines = {}
        while True:
            heard = await self._call(lines, self.serving[-1], order_id, "Prefer: respond-async\r\n")
            if heard is not None and heard.status in _ENDS | {202}:
                break
            await asyncio.sleep(_AGAIN_AFTER_S)
        _close(lines)

    async def _call(self, lines: Lines, server: Server, order_id: int, extra: str = "") -> Heard | None:
        """None where the connection broke."""
        try:
            if server.pid not in lines or not lines[server.pid].is_open:
                lines[server.pid] = await Line.open(server.shop.url)
            body = {"order_id": order_id}
            heard = await lines[server.pid].ask("POST", "/api/esims/activate", self.secret, body, extra)
        except OSError:
            self.counts["connections broken"] += 1
            self.broken.add(order_id)
            return None
        self.answering.add(server.pid)
        self.counts[f"{heard.status} {heard.problem or ''}".strip()] += 1
        return heard


def _close(lines: Lines) -> None:
    for line in lines.values():
        line.close()
