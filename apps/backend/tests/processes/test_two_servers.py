"""Two servers on one database: an order is bought once, and everybody hears the same."""

import asyncio
from collections import Counter
from itertools import cycle
from typing import Any

import pytest

from tests.api.serving import Reply
from tests.processes.installations import Installation, Server


async def all_are_waiting(servers: list[Server]) -> None:
    """
    A server takes requests up in the order in which they came, and then needs its database: when two more have been answered,
    each on a connection of its own, those before them are under way.
    """
    for server in servers * 2:
        assert (await server.get("/api/esims?limit=1")).status == 200


def calls(servers: list[Server], order_id: int, number: int) -> list[asyncio.Task[Reply]]:
    return [server.activating(order_id) for server, _ in zip(cycle(servers), range(number), strict=False)]


def without_its_name(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in problem.items() if name != "request_id"}


async def assert_bought_once(shared: Installation, order_id: int, replies: list[Reply]) -> None:
    assert Counter(reply.status for reply in replies) == {201: 1, 200: len(replies) - 1}
    assert all(
        reply.headers.get("Idempotent-Replayed") == ("true" if reply.status == 200 else None) for reply in replies
    )
    assert len({reply.body for reply in replies}) == 1
    [issued] = shared.issued(order_id)
    assert replies[0].json()["activation_code"] == issued.activation_code
    assert await shared.outcomes(order_id) == ["delivered"]


async def test_fifty_calls_for_one_order_at_once_buy_one_esim(shared: Installation, servers: list[Server]) -> None:
    order_id = await shared.order()
    await shared.script(order_id, "hold")
    waiting = calls(servers, order_id, 50)
    await shared.held()
    await all_are_waiting(servers)
    await shared.release()
    await assert_bought_once(shared, order_id, await asyncio.gather(*waiting))


async def test_ten_orders_of_twenty_calls_each_at_once_buy_ten_esims(
    shared: Installation, servers: list[Server]
) -> None:
    order_ids = [await shared.order() for _ in range(10)]
    for order_id in order_ids:
        await shared.script(order_id, "hold")
    waiting = {order_id: calls(servers, order_id, 20) for order_id in order_ids}
    await shared.held(10)
    await all_are_waiting(servers)
    await shared.release()
    for order_id in order_ids:
        await assert_bought_once(shared, order_id, await asyncio.gather(*waiting[order_id]))


@pytest.mark.parametrize(
    ("fault", "problem", "outcome"),
    [
        ("status_422", "provider-refused", "refused"),
        ("status_429_seconds-3600", "provider-rate-limited", "held_off"),
        ("status_500_after", "activation-outcome-unknown", "unknown"),
        ("reset_after", "activation-outcome-unknown", "unknown"),
    ],
)
async def test_a_failure_is_the_same_for_all_who_wait(
    shared: Installation, servers: list[Server], fault: str, problem: str, outcome: str
) -> None:
    order_id = await shared.order()
    await shared.script(order_id, "hold")
    waiting = calls(servers, order_id, 20)
    await shared.held()
    await all_are_waiting(servers)
    await shared.release(fault)
    replies = await asyncio.gather(*waiting)
    assert {reply.problem for reply in replies} == {(502, problem)}
    first = replies[0]
    for reply in replies:
        assert without_its_name(reply.json()) == without_its_name(first.json())
        assert reply.headers.get("Retry-After") == first.headers.get("Retry-After")
    assert await shared.outcomes(order_id) == [outcome]
    await shared.let_the_provider_go_on()
