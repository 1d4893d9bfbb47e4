"""An installation: a database, a supplier, and the programs that use both."""

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import TextClause, text
from yarl import URL

from app.db import Database
from app.services.orders.page_links import PageLinks
from app.services.orders.place import NewOrder, place_order
from app.vault import Keyring, Vault
from tests.api.serving import Reply, Shop
from tests.builders import a_key, a_plan
from tests.conftest import KEY
from tests.processes.canaries import found_in
from tests.processes.programs import Done, Program, Settings, a_free_port, run, until
from tests.stand_in import Issued, read_ledger
from tests.stand_in.elsewhere import StandInChild

_LINKS = PageLinks(Vault(Keyring.parse(KEY), bytes(32)), days=180)
"""Sealed with the installations' key; nothing here needs their fingerprint key."""

API_KEY = "canary/api+key=of&ours"
PARTNER_ID = "canary-partner-4711"
EMAIL = "zoe.o'canary+tag@example.com"
NAME = 'Zoë "Canary" O\'Traveller'
WEBHOOK_SECRET = "canary-webhook/secret+of=ours"
PASSWORD = "canary%2Fpass%40word"  # as the URL writes it

P = TypeVar("P", bound=Program)

_numbers = count(1)
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: close sends a RST

_STATUS = text("SELECT status FROM esim_profiles WHERE order_id = :order_id")
_ESIM = text("SELECT id FROM esim_profiles WHERE order_id = :order_id")
_OUTCOMES = text(
    "SELECT attempt.outcome FROM provisioning_attempts attempt JOIN esim_profiles profile ON profile.id = attempt.profile_id"
    " WHERE profile.order_id = :order_id ORDER BY attempt.id"
)
_EXPIRE = text(
    "UPDATE provisioning_attempts SET deadline_at = now() - interval '1 second' WHERE reference = :reference"
)


class Server(Program):
    """`tribi serve`."""

    shop: Shop

    async def get(self, path: str) -> Reply:
        return await self.shop.get(path)

    async def activate(self, order_id: int, *, respond_async: bool = False) -> Reply:
        headers = {"Prefer": "respond-async"} if respond_async else None
        return await self.shop.activate(order_id, headers=headers)

    def activating(self, order_id: int, *, respond_async: bool = False) -> asyncio.Task[Reply]:
        return asyncio.create_task(self.activate(order_id, respond_async=respond_async))

    async def is_ready(self) -> bool:
        assert self.is_running, self.log.read_text()
        return await self.answers("/readyz") == 200

    async def answers(self, path: str) -> int:
        """The status, 0 where it doesn't listen."""
        try:
            async with self.shop.http.get(self.shop.url + path) as reply:
                return reply.status
        except aiohttp.ClientError:
            return 0

    async def metric(self, name: str, **labels: str) -> float:
        """The sum over a metric's series with these labels."""
        lines = (await self.get("/metrics")).body.decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        series = [
            line for line in lines if line.startswith((name + " ", name + "{")) and all(one in line for one in wanted)
        ]
        return sum(float(line.rpartition(" ")[2]) for line in series)


@dataclass
class Installation:
    """
    Attributes:
        settings: what its programs find in their environment unless a test says otherwise; None takes one away.
        wrapped_in: what stands before each `tribi` on the command line.
    """

    folder: Path
    settings: Settings
    supplier: StandInChild
    db: Database
    http: aiohttp.ClientSession
    secret: str = ""
    key_id: int = 0
    sku: str = ""
    wrapped_in: Sequence[str] = ()
    programs: list[Program] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def stock(self) -> None:
        """A plan on sale, and a service key."""
        self.sku = await a_plan(self.db)
        self.key_id, self.secret = await a_key(self.db)

    # --- programs

    def start(self, *arguments: str, **changes: str | None) -> Program:
        return self._started(Program, arguments, changes)

    def start_server(self, *arguments: str, port: str | None = None, **changes: str | None) -> Server:
        """`port`: any free one unless told, as the command line takes it."""
        port = port or str(a_free_port())
        server = self._started(Server, ("serve", "--port", port, *arguments), changes)
        bearer = {"Authorization": f"Bearer {self.secret}"}
        server.shop = Shop(f"http://127.0.0.1:{port}", self.db, self.http, bearer, self.key_id)
        return server

    async def serve(self, *arguments: str, **changes: str | None) -> Server:
        """A server that is ready."""
        server = self.start_server(*arguments, **changes)
        await until(server.is_ready)
        return server

    async def run(self, *arguments: str, **changes: str | None) -> Done:
        """A command that ends by itself."""
        done = await run(self.folder, self._changed(changes), *arguments, wrapped_in=self.wrapped_in)
        self.complaints.append(done.stderr)
        return done

    def _started(self, kind: type[P], arguments: tuple[str, ...], changes: dict[str, str | None]) -> P:
        log = self.folder / f"{len(self.programs)}.log"
        program = kind(self.folder, log, self._changed(changes), *arguments, wrapped_in=self.wrapped_in)
        self.programs.append(program)
        return program

    def _changed(self, changes: dict[str, str | None]) -> Settings:
        return {name: value for name, value in (self.settings | changes).items() if value is not None}

    # --- orders

    async def order(self) -> int:
        """A paid one."""
        new = NewOrder(self.sku, EMAIL, NAME, "pay-42")
        async with self.db.begin() as connection:
            placed = await place_order(
                connection,
                new,
                idempotency_key=f"key-{next(_numbers)}",
                key_id=self.key_id,
                provider="CONNECTED_YOU",
                code_provider="CONNECTED_YOU",
                is_live=True,
                page_links=_LINKS,
            )
        return placed.order_id

    async def script(self, order_id: int, *faults: str) -> None:
        """How the supplier takes this order's requests, one after the other."""
        await self.supplier.post("script", {"faults": list(faults), "reference": f"order-{order_id}"})

    async def held(self, number: int = 1) -> None:
        """Waits until the supplier holds so many requests."""
        await self.supplier.get(f"wait?held={number}&timeout_s=30")

    async def hanging(self, number: int = 1) -> None:
        """Waits until so many requests will never be answered."""
        await self.supplier.get(f"wait?hanging={number}&timeout_s=30")

    async def release(self, then: str | None = None) -> None:
        await self.supplier.post("release", {"then": then})

    def issued(self, order_id: int) -> list[Issued]:
        """The ledger's lines for an order."""
        return [line for line in read_ledger(self.ledger) if line.reference == f"order-{order_id}"]

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.jsonl"

    async def status(self, order_id: int) -> str:
        return str(await self._value(_STATUS, order_id=order_id))

    async def esim_id(self, order_id: int) -> int:
        return int(await self._value(_ESIM, order_id=order_id))

    async def outcomes(self, order_id: int) -> list[str | None]:
        """Of the order's attempts; None for an open one."""
        async with self.db.read() as connection:
            return list(await connection.scalars(_OUTCOMES, {"order_id": order_id}))

    async def becomes(self, status: str, *order_ids: int, limit_s: float = 30) -> None:
        async def is_so() -> bool:
            return {await self.status(order_id) for order_id in order_ids} == {status}

        await until(is_so, limit_s)

    async def expire(self, order_id: int) -> None:
        """As if the deadline of the order's attempts had passed."""
        async with self.db.begin() as connection:
            await connection.execute(_EXPIRE, {"reference": f"order-{order_id}"})

    async def has_mail(self, order_id: int) -> None:
        """Waits until its traveller has been sent the instructions: without SMTP_URL a file, which holds the code."""
        [issued] = self.issued(order_id)
        name = issued.activation_code.rpartition("$")[2]
        await until(lambda: any(name in mail.read_text() for mail in self.mails()))

    def mails(self) -> list[Path]:
        return sorted(Path(self.settings["TRIBI_DATA_DIR"]).glob("mails/*.eml"))

    async def let_the_provider_go_on(self) -> None:
        """As if the time had passed for which it asked to wait."""
        async with self.db.begin() as connection:
            await connection.execute(text("DELETE FROM provider_states"))

    async def _value(self, query: TextClause, **values: Any) -> Any:
        async with self.db.read() as connection:
            return await connection.scalar(query, values)

    # --- the end

    def canaries(self) -> Iterable[str]:
        yield from (API_KEY, PARTNER_ID, WEBHOOK_SECRET, EMAIL, NAME, PASSWORD, KEY)
        if self.secret:
            yield self.secret
        for line in read_ledger(self.ledger):
            yield from (line.activation_code, line.activation_code.rpartition("$")[2], line.iccid)

    def written(self) -> str:
        """All that its programs have logged or complained of."""
        return "".join([program.log.read_text() for program in self.programs] + self.complaints)


async def sent(server: Server, order_id: int) -> socket.socket:
    """A connection on which the order's activation has been asked for. When it is closed it is reset."""
    body = json.dumps({"order_id": order_id}).encode()
    url = URL(server.shop.url)
    head = (
        f"POST /api/esims/activate HTTP/1.1\r\nHost: {url.authority}\r\nAuthorization: {server.shop.bearer['Authorization']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(connection, (url.host, url.port))
        await loop.sock_sendall(connection, head.encode() + body)
    except OSError:
        connection.close()
        raise
    return connection


@asynccontextmanager
async def an_installation(folder: Path, database_url: str) -> AsyncIterator[Installation]:
    """
    It buys at a stand-in of its own. At the end its programs are killed, nothing personal stands in what they wrote, and the
    supplier has nothing to complain of.
    """
    async with a_site(folder, database_url, "--no-fsync") as installation:
        try:
            yield installation
        finally:
            for program in installation.programs:
                program.clear_away()
        assert found_in(installation.written(), installation.canaries()) == []


@asynccontextmanager
async def a_site(folder: Path, database_url: str, *of_the_stand_in: str) -> AsyncIterator[Installation]:
    """An installation whose programs are its user's to end. The supplier has nothing to complain of at the end."""
    db = Database(database_url, pool_size=4)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with (
        StandInChild("--ledger", folder / "ledger.jsonl", "--api-key", API_KEY, *of_the_stand_in) as supplier,
        aiohttp.ClientSession(connector=connector, skip_auto_headers=("Content-Type",)) as http,
    ):
        settings = {
            "ESIM_PROVIDER": "CONNECTED_YOU",
            "CONNECTED_YOU_DRY_RUN": "false",
            "CONNECTED_YOU_BASE_URL": supplier.url,
            "CONNECTED_YOU_API_KEY": API_KEY,
            "CONNECTED_YOU_PARTNER_ID": PARTNER_ID,
            "CONNECTED_YOU_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "DATABASE_URL": with_password(database_url),
            "ENCRYPTION_KEY": KEY,
            "TRIBI_DATA_DIR": str(folder / "data"),
            "LOG_LEVEL": "DEBUG",
        }
        yield Installation(folder, settings, supplier, db, http)
        violations = (await supplier.get("state"))["violations"]
        assert not violations, violations
    await db.close()


def with_password(database_url: str) -> str:
    """The server trusts everybody; the password is there to be looked for."""
    return database_url.replace("@/", f":{PASSWORD}@/", 1)


def a_database(postgres_url: str) -> str:
    """A migrated one; it goes with the server."""
    name = f"processes_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_tribi")
    parts = conninfo_to_dict(postgres_url)
    return f"postgresql://{parts['user']}@/{name}?host={parts['host']}&port={parts['port']}"
