"""`tribi serve --workers 2`: one address, two processes; whichever of them dies, the others know what to do."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import aiohttp
import pytest

from tests.processes.installations import Installation, Server
from tests.processes.programs import until


async def a_pair(site: Installation, **changes: str) -> Server:
    server = await site.serve("--workers", "2", **changes)
    await until(lambda: len(server.events("server.started")) == 2)
    return server


@pytest.fixture(scope="module")
async def pair(site: Installation) -> Server:
    return await a_pair(site)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def test_each_worker_serves_and_the_metrics_are_those_of_both(site: Installation, pair: Server) -> None:
    first, second = pair.children()
    for other in (first, second):
        with stopped(other):
            assert [await pair.answers("/problems/not-found") for _ in range(3)] == [200] * 3
    for _ in range(4):  # whichever is asked
        counted = await pair.metric("tribi_http_requests_total", route="/problems/{code}")
        assert counted == 6


async def test_two_activations_of_an_order_meet_whichever_workers_take_them(site: Installation, pair: Server) -> None:
    order_id = await site.order()
    await site.script(order_id, "hold")
    calls = [pair.activating(order_id) for _ in range(20)]
    await site.held()
    await site.release()
    assert sorted([(await call).status for call in calls]) == [200] * 19 + [201]
    assert len(site.issued(order_id)) == 1


async def test_a_killed_worker_is_replaced(site: Installation, pair: Server) -> None:
    order_id = await site.order()
    await site.script(order_id, "hang_after")
    victim, survivor = pair.children()
    with stopped(survivor):
        call = pair.activating(order_id)
        await site.hanging()
    assert await pair.metric("tribi_provider_calls_in_flight") == 1
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(aiohttp.ClientConnectionError):
        await call
    await until(lambda: len(pair.events("server.started")) == 3)
    assert survivor in pair.children()
    assert len(pair.children()) == 2
    assert not is_alive(victim)
    [death] = pair.events("server.worker_died")
    assert (death["pid"], death["status"]) == (victim, -signal.SIGKILL)
    assert await pair.metric("tribi_provider_calls_in_flight") == 0


async def test_workers_whose_parent_was_killed_finish_and_end(site: Installation) -> None:
    server = await a_pair(site)
    workers = server.children()
    order_id = await site.order()
    await site.script(order_id, "hold")
    call = server.activating(order_id)
    await site.held()
    await server.kill()
    await site.release()
    assert (await call).status == 201
    await until(lambda: not any(map(is_alive, workers)))


async def test_what_is_in_flight_in_any_worker_is_finished_and_answered(site: Installation, pair: Server) -> None:
    """The last test of the pair, which it ends."""
    workers = pair.children()
    calls = []
    for number, other in enumerate(workers, 1):
        order_id = await site.order()
        await site.script(order_id, "hold")
        with stopped(other):
            calls.append(pair.activating(order_id))
            await site.held(number)
    pair.send(signal.SIGTERM)
    await site.release()
    assert [(await call).status for call in calls] == [201, 201]
    assert await pair.ended() == 0
    assert not any(map(is_alive, workers))
