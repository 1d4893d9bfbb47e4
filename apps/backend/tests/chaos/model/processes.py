"""Two servers on one database: called without a socket, each with activations of its own, which die with it."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.types import ASGIApp, Message

from app.api.access import Office
from app.db import Database, driver_of
from app.errors import DatabaseUnavailable
from app.house import House
from app.main import create_app
from app.services.esim_providers import EsimProvider
from app.services.esims.activate import Activations
from app.services.esims.by_key import ByKey
from app.settings import Settings
from app.vault import Keyring
from tests.api.serving import Reply, keeps_the_rules
from tests.chaos.model.still_loop import Traffic

BASE_URL = "http://127.0.0.1:8000"


class Mishap(Enum):
    """What may befall a transaction at its end."""

    REFUSED = auto()
    """It is not committed, and the database is away."""
    UNACKNOWLEDGED = auto()
    """It is committed, and the database is away before it has said so."""
    DIES_BEFORE = auto()
    """The process goes no further; nothing is committed."""
    DIES_AFTER = auto()


class ShakyDatabase(Database):
    """A database whose next transactions may be told to end badly."""

    def __init__(self, url: str, traffic: Traffic) -> None:
        super().__init__(url, pool_size=6)
        self._traffic = traffic
        self.mishaps: deque[Mishap | None] = deque()
        """What befalls the transactions to come; None is nothing."""

    @asynccontextmanager
    async def begin(self, *, within_s: float | None = None) -> AsyncGenerator[AsyncConnection, None]:
        mishap = self.mishaps.popleft() if self.mishaps else None
        self._traffic.begins()
        try:
            async with super().begin(within_s=within_s) as connection:
                yield connection
                if mishap in {Mishap.REFUSED, Mishap.DIES_BEFORE}:
                    await driver_of(connection).rollback()  # what is left to commit is nothing
        finally:
            self._traffic.ends()
        if mishap in {Mishap.DIES_BEFORE, Mishap.DIES_AFTER}:
            await asyncio.Event().wait()
        if mishap is not None:
            raise DatabaseUnavailable("the database went away")

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection, None]:
        self._traffic.begins()
        try:
            async with super().read() as connection:
                yield connection
        finally:
            self._traffic.ends()


class Process:
    """A server without its sockets and its timetable: sweeping is a step of its own."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        keyring: Keyring,
        traffic: Traffic,
        *,
        timeout_s: float,
        wait_s: float,
    ) -> None:
        assert settings.database_url is not None
        self.name = name
        self.db = ShakyDatabase(settings.database_url.get_secret_value(), traffic)
        self.house = House(settings, self.db, keyring)
        self._timeout_s, self._wait_s = timeout_s, wait_s
        self._shell = create_app(settings)

    def start(self, provider: EsimProvider) -> None:
        """Like new: what was in its memory is gone."""
        self._provider = provider
        self.activations = self.command()
        self._shell.app.state.office = Office(self.house, provider, self.activations, ByKey(self.house), BASE_URL)

    def command(self) -> Activations:
        """The activations of a process of their own, as the command line has them."""
        return Activations(
            self.house, self._provider, timeout_s=self._timeout_s, wait_s=self._wait_s, max_concurrency=100
        )

    async def die(self) -> None:
        """All its tasks end where they are; none of them gets to write anything."""
        self.db.mishaps.clear()
        await self.activations.drain(0)

    async def call(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Reply:
        reply = await _ask(self._shell, method, path, headers, body)
        keeps_the_rules(reply, path)
        return reply


async def _ask(app: ASGIApp, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
    """An HTTP request without HTTP (ASGI 3.0)."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
    }
    request = deque([{"type": "http.request", "body": body, "more_body": False}])
    status, received, parts = 0, CIMultiDict[str](), list[bytes]()

    async def receive() -> Message:
        if not request:
            await asyncio.Event().wait()  # the client stays
        return request.popleft()

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            received.extend((name.decode(), value.decode()) for name, value in message["headers"])
        else:
            parts.append(message["body"])

    await app(scope, receive, send)
    return Reply(status, CIMultiDictProxy(received), b"".join(parts))
