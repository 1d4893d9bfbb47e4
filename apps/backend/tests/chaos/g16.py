"""
G16: the database is set back to a random moment of its past, hundreds of activations after that moment. Nothing is sent until
`tribi recover`; then the storefront sends all its orders again, and what was bought before is not bought again.
"""

import asyncio
import json
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from app.db import Database
from app.services.esims.intent import reference_of
from tests.api.serving import a_name, a_wish
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.restoring import Restorable, restorable
from tests.chaos.stage import ForkedServer, Stage, a_stage
from tests.processes.programs import until
from tests.stand_in import read_ledger

STILL_THERE = "forgotten, of orders that are still there"
GONE = "forgotten, of orders that are gone"
CUT = "times set back"
_CLIENTS = 32
_LATENCY_S = 0.02
_TIMEOUT_S = 5


@dataclass
class _Cart:
    """What the storefront knows of an order."""

    key: str = field(default_factory=lambda: a_name("cart"))
    order_id: int | None = None


@dataclass(frozen=True)
class Limits:
    """Seconds from the beginning of the restore to a server that is ready."""

    ready_s: float = 300


async def run(
    folder: Path, *, n: int, seed: int, tick: Tick = no_tick, activations: int = 300, limits: Limits = Limits()
) -> Outcome:
    """
    Args:
        n: moments to which the database is set back, one after the other.
        activations: after each of them, before it is set back.
    """
    with restorable() as database:
        async with a_stage(
            folder, postgres_url=database.server.url, CONNECTED_YOU_TIMEOUT_SECONDS=str(_TIMEOUT_S)
        ) as stage:
            await stage.site.supplier.post("settings", {"latency_s": _LATENCY_S})
            play = _Play(stage, database, random.Random(f"{seed}/cuts"), activations)  # noqa: S311 - a schedule, no secret
            for _ in range(n):
                await play.cut()
                tick(1)
            return await play.end(n, limits)


class _Play:
    def __init__(self, stage: Stage, database: Restorable, rng: random.Random, activations: int) -> None:
        self.stage = stage
        self.database = database
        self.rng = rng
        self.activations = activations
        self.outcome = Outcome()
        self.carts: list[_Cart] = []
        self.slowest_s = 0.0

    async def cut(self) -> None:
        backup = await self.database.back_up()
        servers = [await self.stage.server() for _ in range(2)]
        before = self.rng.randrange(self.activations // 3, self.activations)
        carts = [_Cart() for _ in range(before + self.activations)]
        self.carts += carts
        selling = asyncio.create_task(self._sell(carts, servers))
        await until(lambda: sum(cart.order_id is not None for cart in carts) >= before, 300)
        moment = self.database.moment()
        if self.rng.random() < 0.5:
            await selling
        else:
            await until(lambda: sum(cart.order_id is not None for cart in carts) >= len(carts) - _CLIENTS // 2, 300)
        for server in servers:
            server.send(signal.SIGKILL)
            await server.ended()
        await selling

        begun = time.monotonic()
        await self.database.set_back(backup, moment)
        await self._move()
        server = await self.stage.server()
        self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
        self.outcome.counts[CUT] += 1
        await self._is_held(server)
        await self._recover()
        await self._sell(carts, [server])
        for cart in carts:
            if cart.order_id is None:
                self.outcome.failures.append(f"{cart.key} could not be sold after the restore")
        server.send(signal.SIGTERM)
        await server.ended()

    async def _move(self) -> None:
        """All of the installation to the restored database."""
        site = self.stage.site
        await site.db.close()
        url = self.database.url_of(site.settings["DATABASE_URL"])
        site.settings["DATABASE_URL"] = url
        site.db = Database(url, pool_size=4)

    async def _sell(self, carts: list[_Cart], servers: list[ForkedServer]) -> None:
        """A storefront: it places each order and activates it, until the end or until its server is dead."""
        waiting = iter(carts)

        async def client(number: int) -> None:
            server = servers[number % len(servers)]
            for cart in waiting:
                try:
                    await self._sell_one(cart, server)
                except (aiohttp.ClientError, ConnectionError):
                    return

        await asyncio.gather(*(client(number) for number in range(_CLIENTS)))

    async def _sell_one(self, cart: _Cart, server: ForkedServer) -> None:
        reply = await server.shop.place(a_wish(self.stage.site.sku), key=cart.key)
        if reply.status != 201:
            self.outcome.failures.append(f"{cart.key} was answered {reply.status}: {reply.body[:200]!r}")
            return
        order_id = int(reply.json()["id"])
        if cart.order_id not in {None, order_id}:
            self.outcome.counts["orders that got a new number"] += 1
            if any(line.reference == reference_of(cart.order_id or 0) for line in read_ledger(self.stage.site.ledger)):
                self.outcome.failures.append(f"{cart.key} was bought as {cart.order_id}, and is {order_id} now")
        cart.order_id = order_id
        await server.shop.activate(order_id)

    async def _is_held(self, server: ForkedServer) -> None:
        bought = len(read_ledger(self.stage.site.ledger))
        readiness = (await server.shop.get("/readyz")).json()
        if "held_since" not in readiness:
            self.outcome.failures.append(f"the server does not hold: {readiness}")
        placed = await server.shop.place(a_wish(self.stage.site.sku))
        known = await server.shop.get("/api/orders?limit=1")
        sent = [
            (await server.shop.activate(item["id"])).status
            for item in known.json()["items"]
            if item["esim"]["status"] in {"pending", "refused"}
        ]
        if placed.status != 503 or set(sent) - {503}:
            self.outcome.failures.append(f"while it holds, an order got {placed.status} and activations {sent}")
        if len(read_ledger(self.stage.site.ledger)) != bought:
            self.outcome.failures.append("something was bought while it holds")

    async def _recover(self) -> None:
        done = await self.stage.site.run("recover", "--json")
        assert done.status == 0, done.stderr
        recovery: dict[str, Any] = json.loads(done.stdout)
        for forgotten in recovery["forgotten"]:
            self.outcome.counts[GONE if forgotten["status"] is None else STILL_THERE] += 1

    async def end(self, n: int, limits: Limits) -> Outcome:
        outcome = self.outcome
        outcome.done = n
        disturbed = {reference_of(cart.order_id) for cart in self.carts if cart.order_id is not None}
        server = await self.stage.server()
        await self.stage.recover([int(reference.removeprefix("order-")) for reference in disturbed], server)
        outcome.verdict = await self.stage.judge(disturbed=disturbed)
        await self.stage.site.db.close()
        outcome.counts["orders"] = len(self.carts)
        outcome.figures["longest from the restore to ready, s"] = round(self.slowest_s, 2)
        outcome.require(CUT, n)
        outcome.require(STILL_THERE, 1)
        outcome.require(GONE, n)
        if self.slowest_s > limits.ready_s:
            outcome.failures.append(f"it took {self.slowest_s:.0f} s until a server was ready, over {limits.ready_s:g}")
        return outcome
