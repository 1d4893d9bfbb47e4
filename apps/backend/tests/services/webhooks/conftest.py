"""Receivers on loopback sockets, and endpoints that lead to them."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select, text
from standardwebhooks import Webhook

from app.db import Database
from app.house import House
from app.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from app.services.webhooks.dispatch import Dispatcher
from app.services.webhooks.endpoints import add_endpoint
from app.services.webhooks.line import Line


@dataclass(frozen=True)
class Heard:
    """A message as it arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The payload, by the reference library. WebhookVerificationError where the signature isn't of that secret."""
        return Webhook(secret).verify(self.body, self.headers)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """A seller's server. `answer`: what it does with a message; 204 unless told otherwise."""

    url: str = ""
    heard: list[Heard] = field(default_factory=list)
    answer: Callable[[Heard], Awaitable[web.StreamResponse]] | None = None

    async def take(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        message = Heard(headers, await request.read())
        self.heard.append(message)
        return web.Response(status=204) if self.answer is None else await self.answer(message)

    def always(self, status: int, said: str = "", **headers: str) -> None:
        async def answer(_: Heard) -> web.StreamResponse:
            return web.Response(status=status, text=said, headers=headers)

        self.answer = answer

    @property
    def duplicates(self) -> int:
        return sum(times - 1 for times in Counter(message.message_id for message in self.heard).values())


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async for one in a_receiver():
        yield one


async def a_receiver(receiver: Receiver | None = None) -> AsyncIterator[Receiver]:
    receiver = receiver or Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    yield receiver
    await runner.cleanup()


@pytest.fixture
def telling_house(house: House) -> House:
    return telling(house)


def telling(house: House) -> House:
    """Its endpoints may be on this machine."""
    settings = house.settings.model_copy(update={"webhooks_allow_private": True})
    return House(settings, house.db, house.keyring, house.vault)


async def an_endpoint(house: House, url: str, *events: str) -> tuple[int, str]:
    """Its id and its secret."""
    async with house.db.begin() as connection:
        endpoint, secret = await add_endpoint(
            connection, house.keyring, url, events, allow_private=True, actor="cli:test"
        )
    return endpoint.id, secret


async def worked_off(house: House, *, timeout_s: float = 5, rounds: int = 1) -> int:
    """By a process of its own, until nothing more is due. Returns how many attempts it has made."""
    line = Line(allow_private=True, timeout_s=timeout_s)
    dispatcher, made = Dispatcher(house, line), 0
    try:
        while begun := await dispatcher.begin_due():
            made += begun
            await dispatcher.finish()
    finally:
        await line.close()
    return made


async def time_passes(db: Database, interval: str) -> None:
    """By the database's clock: all that is on file is so much longer ago."""
    async with db.begin() as connection:
        for statement in (
            "UPDATE webhook_deliveries SET next_attempt_at = next_attempt_at - CAST(:i AS interval),"
            " leased_until = leased_until - CAST(:i AS interval)",
            "UPDATE webhook_endpoints SET failing_since = failing_since - CAST(:i AS interval),"
            " previous_until = previous_until - CAST(:i AS interval)",
        ):
            await connection.execute(text(statement), {"i": interval})


async def events_on_file(db: Database) -> list[Any]:
    async with db.read() as connection:
        return list((await connection.execute(select(WebhookEvent.__table__).order_by(WebhookEvent.id))).all())


async def deliveries_on_file(db: Database) -> list[Any]:
    async with db.read() as connection:
        return list((await connection.execute(select(WebhookDelivery.__table__).order_by(WebhookDelivery.id))).all())


async def endpoint_on_file(db: Database, endpoint_id: int) -> Any:
    async with db.read() as connection:
        return (
            await connection.execute(select(WebhookEndpoint.__table__).where(WebhookEndpoint.id == endpoint_id))
        ).one()


async def told(house: House, *news: Any) -> None:
    """Each in a transaction of its own."""
    from app.services.webhooks.tell import tell

    for one in news:
        async with house.db.begin() as connection:
            await tell(connection, one)


async def until_heard(receiver: Receiver, messages: int) -> None:
    async with asyncio.timeout(30):
        while len(receiver.heard) < messages:  # noqa: ASYNC110 - it is told by no event
            await asyncio.sleep(0.01)
