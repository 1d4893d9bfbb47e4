"""The application as clients meet it: over a socket, served as `tribi serve` does, in a thread with a loop of its own."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import aiohttp
import uvicorn
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from app.api.shell import Shell
from app.db import Database
from app.errors import problem_types
from app.main import create_app
from app.settings import Settings
from tests.builders import a_key, a_plan

PROBLEM = "application/problem+json"
_START_WITHIN_S = 30
_numbers = count(1)

Found = TypeVar("Found")


@dataclass(frozen=True)
class Served:
    url: str
    shell: Shell


@contextmanager
def served(settings: Settings) -> Iterator[Served]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        shell = create_app(settings)
        config = uvicorn.Config(
            shell,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=settings.trusted_proxies is not None,
            forwarded_allow_ips=settings.trusted_proxies or "",
            timeout_graceful_shutdown=20,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        begun = time.monotonic()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            assert time.monotonic() < begun + _START_WITHIN_S, "the server did not start in time"
            time.sleep(0.005)
        try:
            yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", shell)
        finally:
            server.should_exit = True
            thread.join(_START_WITHIN_S)
            assert not thread.is_alive(), "the server did not end"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> tuple[int, str]:
        """The status and the problem's type, without `/problems/`."""
        assert self.headers["Content-Type"] == PROBLEM, self
        return self.status, str(self.json()["type"]).removeprefix("/problems/")

    @property
    def pointers(self) -> list[str]:
        """Where the mistakes are that a problem names."""
        return [mistake["pointer"] for mistake in self.json().get("errors", [])]


def keeps_the_rules(reply: Reply, path: str) -> None:
    """What holds for every reply, whatever was asked."""
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
    assert len(reply.headers["X-Request-Id"]) >= 8
    assert len(reply.headers.getall("X-Request-Id")) == 1
    if (
        path.startswith(("/api/orders", "/api/esims", "/api/webhook-endpoints"))
        or reply.headers.get("Content-Type") == PROBLEM
    ):
        assert reply.headers["Cache-Control"] == "no-store"
    if reply.headers.get("Content-Type") == PROBLEM and reply.body:
        problem = reply.json()
        assert set(problem) - {"errors"} == {"type", "title", "status", "detail", "instance", "request_id", "retryable"}
        assert problem["status"] == reply.status
        assert problem["request_id"] == reply.headers["X-Request-Id"]
        assert problem["type"].removeprefix("/problems/") in problem_types()
    elif reply.status >= 400:
        assert path.startswith(("/readyz", "/i/")) or not reply.body, reply


Headers = dict[str, str] | CIMultiDict[str]


@dataclass(frozen=True)
class Shop:
    """A storefront: a client with service keys, on a server whose database tests may look into."""

    url: str
    db: Database
    http: aiohttp.ClientSession
    bearer: dict[str, str]
    """The header of a key with all scopes."""
    key_id: int

    @property
    def host(self) -> str:
        return URL(self.url).host or ""

    @property
    def port(self) -> int:
        return URL(self.url).port or 0

    async def call(
        self, method: str, path: str, *, headers: Headers | None = None, data: Any = None, anonymous: bool = False
    ) -> Reply:
        """`path` travels as it is written. `headers` come on top of the key's, unless `anonymous`."""
        sent: CIMultiDict[str] = CIMultiDict(headers or {})
        if not anonymous and "Authorization" not in sent:
            sent.update(self.bearer)
        url = URL(self.url + path, encoded=True)
        async with self.http.request(method, url, headers=sent, data=data, allow_redirects=False) as reply:
            got = Reply(reply.status, reply.headers, await reply.read())
        keeps_the_rules(got, path)
        return got

    async def get(self, path: str, **rest: Any) -> Reply:
        return await self.call("GET", path, **rest)

    async def post(self, path: str, body: object, *, headers: Headers | None = None, anonymous: bool = False) -> Reply:
        """`body`: bytes as they are, anything else as JSON."""
        sent: CIMultiDict[str] = CIMultiDict(headers or {})
        sent.setdefault("Content-Type", "application/json")
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.call("POST", path, headers=sent, data=data, anonymous=anonymous)

    async def place(self, body: object, *, key: str | None = None, headers: Headers | None = None) -> Reply:
        """POST /api/orders under a new idempotency key, unless one is given."""
        sent: CIMultiDict[str] = CIMultiDict({"Idempotency-Key": key or a_name("key")})
        sent.update(headers or {})
        return await self.post("/api/orders", body, headers=sent)

    async def ordered(self, **plan: Any) -> dict[str, Any]:
        """A new order of a new plan (built by `a_plan` as told), as the reply shows it."""
        reply = await self.place(a_wish(await a_plan(self.db, **plan)))
        assert reply.status == 201, reply
        return dict(reply.json())

    async def activate(self, order_id: object, *, headers: Headers | None = None) -> Reply:
        return await self.post("/api/esims/activate", {"order_id": order_id}, headers=headers)


async def open_shop(url: str, db: Database) -> Shop:
    key_id, secret = await a_key(db)
    # Each request on a connection of its own: what one test does to its connection is nobody else's concern.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    http = aiohttp.ClientSession(connector=connector, skip_auto_headers=("Content-Type",))
    return Shop(url, db, http, {"Authorization": f"Bearer {secret}"}, key_id)


def a_name(of: str) -> str:
    """One that nobody else in this run has."""
    return f"{of}-{next(_numbers)}-of-{threading.get_native_id()}"


def a_wish(sku: str, **changes: object) -> dict[str, Any]:
    """The body of a good order."""
    customer = {"email": "ana@example.com", "name": "Ana Traveller"}
    return {"sku": sku, "customer": customer, "payment": {"status": "paid", "reference": "pay_42"}} | changes


async def eventually(look: Callable[[], Awaitable[Found | None]]) -> Found:
    """What is found once something is."""
    async with asyncio.timeout(10):
        while (found := await look()) is None:  # noqa: ASYNC110 - what is waited for happens in another loop
            await asyncio.sleep(0.01)
    return found


async def raw(url: str, sent: bytes) -> bytes:
    """What a server says to these bytes until it closes; for what no client library would send."""
    target = URL(url)
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
