"""G6, the client hangs up: activations whose client leaves by RST 0 to 200 ms after it asked, half of them behind a proxy."""

import asyncio
import json
import random
import socket
import struct
from collections.abc import Collection, Sequence
from pathlib import Path

from sqlalchemy import text
from yarl import URL

from tests.chaos.outcome import Outcome, Tick
from tests.chaos.reverse_proxy import a_reverse_proxy
from tests.chaos.stage import Stage, a_stage
from tests.processes.programs import until

LATENCY_S = 0.1
LONGEST_S = 0.2
_AT_ONCE = 16
_WITH_A_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds
_BEGUN = text("SELECT DISTINCT reference FROM provisioning_attempts")


async def run(folder: Path, *, n: int, seed: int, tick: Tick, postgres_url: str | None = None) -> Outcome:
    """
    `n` orders, each begun by a call that was cut. A RST may overtake the request within the server's kernel, and then there
    was no call: it is made, and cut, again.
    """
    outcome = Outcome(done=n)
    async with a_stage(folder, postgres_url=postgres_url) as stage:
        await stage.site.supplier.post("settings", {"latency_s": LATENCY_S})
        servers = [await stage.server() for _ in range(2)]
        ports = [URL(server.shop.url).port or 0 for server in servers]
        order_ids = await stage.orders(n)
        async with a_reverse_proxy(ports[0]) as first, a_reverse_proxy(ports[1]) as second:
            doors = (*ports, first.port, second.port)
            left: Collection[int] = order_ids
            for turn in range(100):
                outcome.counts["calls cut"] += len(left)
                await _ask_and_leave(stage, left, doors, random.Random(f"{seed}/{turn}"))  # noqa: S311 - reproducible
                for server in servers * 2:  # what came before has been taken up by then
                    await server.get("/api/esims?limit=1")
                begun = await _begun(stage)
                tick(len([order_id for order_id in left if order_id in begun]))
                left = [order_id for order_id in left if order_id not in begun]
                if not left:
                    break
            outcome.counts["dropped by the proxy"] = first.counts["dropped"] + second.counts["dropped"]

        async def none_is_under_way() -> bool:
            return "provisioning" not in (await stage.statuses()).values()

        await until(none_is_under_way)
        await _look(stage, order_ids, outcome)
    return outcome


async def _ask_and_leave(stage: Stage, order_ids: Collection[int], doors: Sequence[int], draw: random.Random) -> None:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def call(order_id: int, port: int, wait_s: float) -> None:
        async with slots:
            with await _asked(stage, order_id, port):
                await asyncio.sleep(wait_s)

    plan = [(order_id, draw.choice(doors), draw.uniform(0, LONGEST_S)) for order_id in order_ids]
    await asyncio.gather(*(call(*one) for one in plan))


async def _asked(stage: Stage, order_id: int, port: int) -> socket.socket:
    """A connection on which the order's activation has been asked for; closing it sends a RST."""
    body = json.dumps({"order_id": order_id}).encode()
    head = (
        f"POST /api/esims/activate HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {stage.site.secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _WITH_A_RESET)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", port))
    await loop.sock_sendall(connection, head.encode() + body)
    return connection


async def _begun(stage: Stage) -> set[int]:
    async with stage.site.db.read() as connection:
        return {int(reference.removeprefix("order-")) for reference in await connection.scalars(_BEGUN)}


async def _look(stage: Stage, order_ids: list[int], outcome: Outcome) -> None:
    statuses = await stage.statuses()
    outcome.failures += [
        f"order {order_id} is {statuses[order_id]}" for order_id in order_ids if statuses[order_id] != "provisioned"
    ]
    requests = await stage.requests()
    cancelled = [request["reference"] for request in requests if request["ended"] != "answered"]
    outcome.failures += [f"{reference} was given up in the middle of its call" for reference in cancelled]
    outcome.counts["calls to the supplier"] = len(requests)
    outcome.verdict = await stage.judge()
    outcome.require("calls cut", len(order_ids))
    outcome.require("dropped by the proxy", len(order_ids) // 10)
