"""A reverse proxy as they commonly are: one connection to the server for each of a client, dropped when the client leaves."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class ReverseProxy:
    """`counts`: "carried" connections, and "dropped" ones, whose client left before the server had answered."""

    to_port: int
    port: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _carried: set[asyncio.Task[None]] = field(default_factory=set)

    def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["carried"] += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.transport.abort()
            return
        asking = asyncio.create_task(_pipe(reader, far_writer))
        answering = asyncio.create_task(_pipe(far_reader, writer))
        await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            self.counts["dropped"] += 1
        for task in (asking, answering):
            task.cancel()
        await asyncio.wait((asking, answering))
        far_writer.close()  # a FIN, however the client went: what nginx does
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def a_reverse_proxy(to_port: int) -> AsyncIterator[ReverseProxy]:
    """In front of a server on this machine."""
    proxy = ReverseProxy(to_port)
    server = await asyncio.start_server(proxy._called, "127.0.0.1", 0, backlog=1024)  # noqa: SLF001 - its own maker
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        while carried := set(proxy._carried):  # noqa: SLF001
            await asyncio.wait(carried)
