"""The client hangs up: the work is the server's and goes on."""

import asyncio
import random

from tests.processes.installations import Installation, Server, sent
from tests.processes.programs import until

ORDERS = 100
LATENCY_S = 0.1


async def test_an_activation_that_has_begun_is_stored_whenever_its_client_hangs_up(
    shared: Installation, servers: list[Server]
) -> None:
    order_ids = [await shared.order() for _ in range(ORDERS)]
    for order_id in order_ids:
        await shared.script(order_id, f"slow_before-{LATENCY_S}")
    moments = random.Random(4711)  # noqa: S311 - reproducible is what is wanted

    async def ask_and_leave(server: Server, order_id: int) -> None:
        connection = await sent(server, order_id)
        await until(lambda: shared.outcomes(order_id))
        await asyncio.sleep(moments.uniform(0, 2 * LATENCY_S))  # from before the answer until after it
        connection.close()

    for start in range(0, ORDERS, 10):
        batch = order_ids[start : start + 10]
        await asyncio.gather(*(ask_and_leave(servers[order_id % 2], order_id) for order_id in batch))
    await shared.becomes("provisioned", *order_ids)
    for order_id in order_ids:
        assert len(shared.issued(order_id)) == 1
        assert await shared.outcomes(order_id) == ["delivered"]


async def test_hanging_up_at_once_leaves_an_order_untouched_or_provisioned(
    shared: Installation, servers: list[Server]
) -> None:
    """A RST may overtake the request within the server's kernel; then there was none."""
    order_ids = [await shared.order() for _ in range(ORDERS)]
    for order_id in order_ids:
        (await sent(servers[order_id % 2], order_id)).close()

    async def all_are_settled() -> bool:
        outcomes = [await shared.outcomes(order_id) for order_id in order_ids]
        return all(found in ([], ["delivered"]) for found in outcomes)

    for server in servers * 2:  # what came before has been taken up by then
        assert (await server.get("/api/esims?limit=1")).status == 200
    await until(all_are_settled)
    for order_id in order_ids:
        is_bought = bool(await shared.outcomes(order_id))
        assert await shared.status(order_id) == ("provisioned" if is_bought else "pending")
        assert len(shared.issued(order_id)) == is_bought
