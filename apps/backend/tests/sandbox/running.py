"""A sandbox on a free port, in the test's own event loop."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from app.listening import listen, url_of
from app.sandbox.behaviours import Repeats
from app.sandbox.ledger import Ledger
from app.sandbox.server import Options, serving
from app.sandbox.webhooks import Target
from tests.api.serving import Reply

HEADERS = {"Content-Type": "application/json", "x-api-key": "any-key"}


def an_order(reference: str = "order-1", plan_code: str = "CY-ES-5GB", **fields: object) -> dict[str, Any]:
    """The blueprint's request."""
    order = {
        "partnerId": "partner-1",
        "orderReference": reference,
        "planCode": plan_code,
        "countryIso2": "ES",
        "quantity": 1,
        "customer": {"email": "user@example.com", "name": "Test User"},
        "metadata": {"order_id": 123, "plan_name": "Spain 5GB"},
    }
    return order | fields


@dataclass(frozen=True)
class Sandbox:
    url: str
    http: aiohttp.ClientSession

    async def call(self, method: str, path: str, *, data: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        url = URL(self.url + path, encoded=True)
        async with self.http.request(method, url, data=data, headers=headers, allow_redirects=False) as reply:
            return Reply(reply.status, reply.headers, await reply.read())

    async def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> Reply:
        """`body`: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.call("POST", path, data=data, headers=headers or {"Content-Type": "application/json"})

    async def order(self, reference: str = "order-1", plan_code: str = "CY-ES-5GB", **fields: object) -> Reply:
        return await self.post("/partners/orders", an_order(reference, plan_code, **fields), HEADERS)

    async def bought(self, reference: str = "order-1", plan_code: str = "CY-ES-5GB") -> dict[str, str]:
        """What an order that goes well brings."""
        reply = await self.order(reference, plan_code)
        assert reply.status == 200, reply
        return dict(reply.json()["data"])

    async def ledger(self, query: str = "") -> dict[str, Any]:
        return dict((await self.call("GET", f"/sandbox/ledger{query}")).json())

    async def esims(self) -> int:
        return int((await self.ledger())["esims"])

    async def page(self) -> str:
        return (await self.call("GET", "/")).body.decode()


@asynccontextmanager
async def a_sandbox(
    *, repeats: Repeats = Repeats.BILL, ledger: Path | None = None, webhook_url: str | None = None
) -> AsyncIterator[Sandbox]:
    options = Options("127.0.0.1", 0, repeats, ledger, webhook_url, "x-webhook-secret", "the-secret")
    target = Target(webhook_url, options.webhook_header, options.webhook_secret)
    listening = listen(options.host, options.port)
    with closing(Ledger(ledger)) as book:
        async with serving(listening, options, book, target), aiohttp.ClientSession() as http:
            yield Sandbox(url_of(listening, options.host), http)
