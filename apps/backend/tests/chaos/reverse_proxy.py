"""
A reverse proxy as they commonly are: one connection to the server for each of a client, dropped when the client leaves.
And a balancer: the same before several servers, of which it asks each whether it is ready.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

_ASK_EVERY_S = 0.1
_ASK_WITHIN_S = 2

P = TypeVar("P", bound="ReverseProxy")


@dataclass
class ReverseProxy:
    """
    Attributes:
        counts: "carried" connections, and "dropped" ones, whose client left before the server had answered.
        open_to: connections that are carried now, by the server's port.
    """

    to_port: int = 0
    port: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    open_to: Counter[int] = field(default_factory=Counter)
    _carried: set[asyncio.Task[None]] = field(default_factory=set)

    def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["carried"] += 1
        for port in self._ports():
            with suppress(OSError):  # nothing has been sent yet: the next one may be asked
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                break
        else:
            self.counts["refused"] += 1
            writer.transport.abort()
            return
        self.open_to[port] += 1
        asking = asyncio.create_task(_pipe(reader, far_writer))
        answering = asyncio.create_task(_pipe(far_reader, writer))
        await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            self.counts["dropped"] += 1
        for task in (asking, answering):
            task.cancel()
        await asyncio.wait((asking, answering))
        self.open_to[port] -= 1
        far_writer.close()  # a FIN, however the client went: what nginx does
        writer.close()

    def _ports(self) -> list[int]:
        return [self.to_port]


@dataclass
class Balancer(ReverseProxy):
    """
    Attributes:
        servers: the ports of all servers.
        ready: of those that said so when they were asked last, without those that were taken out.
        taken_out: by hand, whatever they say.
    """

    servers: set[int] = field(default_factory=set)
    ready: set[int] = field(default_factory=set)
    taken_out: set[int] = field(default_factory=set)
    _turns: Iterator[int] = field(default_factory=itertools.count)
    _asking: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    def take_out(self, port: int) -> None:
        self.taken_out.add(port)
        self.ready.discard(port)

    async def keep_asking(self) -> None:
        """Asks each for /readyz, ten times a second, whatever another one takes."""
        while True:
            asked = {port for port, task in self._asking.items() if not task.done()}
            self._asking |= {
                port: asyncio.create_task(self._ask(port)) for port in self.servers - self.taken_out - asked
            }
            await asyncio.sleep(_ASK_EVERY_S)

    async def _ask(self, port: int) -> None:
        is_ready = False
        with suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(_ASK_WITHIN_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(b"GET /readyz HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n")
                    is_ready = (await reader.readline()).split()[1:2] == [b"200"]
                finally:
                    writer.close()
        if is_ready and port not in self.taken_out:
            self.ready.add(port)
        else:
            self.ready.discard(port)

    def _ports(self) -> list[int]:
        ports, turn = sorted(self.ready), next(self._turns)
        return [ports[(turn + nth) % len(ports)] for nth in range(len(ports))]


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def a_reverse_proxy(to_port: int) -> AsyncIterator[ReverseProxy]:
    """In front of a server on this machine."""
    async with _listening(ReverseProxy(to_port)) as proxy:
        yield proxy


@asynccontextmanager
async def a_balancer() -> AsyncIterator[Balancer]:
    """It knows no server yet."""
    async with _listening(Balancer()) as balancer:
        asking = asyncio.create_task(balancer.keep_asking())
        try:
            yield balancer
        finally:
            for task in (asking, *balancer._asking.values()):  # noqa: SLF001 - its own maker
                task.cancel()


@asynccontextmanager
async def _listening(proxy: P) -> AsyncIterator[P]:
    server = await asyncio.start_server(proxy._called, "127.0.0.1", 0, backlog=1024)  # noqa: SLF001 - its own maker
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        while carried := set(proxy._carried):  # noqa: SLF001
            await asyncio.wait(carried)
