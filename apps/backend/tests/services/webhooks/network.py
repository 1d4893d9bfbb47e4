"""The network of a guard's test: a name server that says what it is told to, and a note of every connection that is opened."""

import asyncio
import socket
import threading
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from aiohttp.abc import AbstractResolver, ResolveResult

from tests.services.webhooks.conftest import Receiver, a_receiver
from tests.services.webhooks.targets import PUBLIC


@dataclass
class Names(AbstractResolver):
    """Says one list of addresses a question; the last one again and again. `asked`: how often."""

    answers: Sequence[Sequence[str]]
    asked: int = 0

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's signature
    ) -> list[ResolveResult]:
        addresses = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


@dataclass
class Wires:
    """`opened`: the addresses to which connections were opened, but those to PUBLIC; `knocks`: at the listeners of this machine."""

    opened: list[Any] = field(default_factory=list)
    public: int = 0
    knocks: int = 0
    leads_to: tuple[str, int] | None = None
    """Where connections to PUBLIC really go; None: nowhere, they are refused."""


@asynccontextmanager
async def watched_wires(ports: Sequence[int] = (8443,)) -> AsyncIterator[Wires]:
    """While it lasts no connection of this loop leaves the machine. Listeners stand on loopback ports, and count."""
    wires = Wires()
    connect = BaseSelectorEventLoop.sock_connect

    async def noted(loop: BaseSelectorEventLoop, sock: socket.socket, address: Any) -> None:
        if address[0] != PUBLIC:
            wires.opened.append(address)
            raise ConnectionRefusedError
        wires.public += 1
        if wires.leads_to is None:
            raise ConnectionRefusedError
        await connect(loop, sock, wires.leads_to)

    async def knock(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wires.knocks += 1
        writer.close()

    servers = [await asyncio.start_server(knock, "127.0.0.1", port) for port in ports]
    try:
        with mock.patch.object(BaseSelectorEventLoop, "sock_connect", noted):
            yield wires
    finally:
        for server in servers:
            server.close()
            await server.wait_closed()


@contextmanager
def served_in_a_thread() -> Iterator[Receiver]:
    """A receiver for as long as it takes, while this thread waits for a command."""
    receiver, began, loop = Receiver(), threading.Event(), asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        async for _ in a_receiver(receiver):
            began.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    began.wait()
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
