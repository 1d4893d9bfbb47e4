"""A server that is asked to end finishes what is in flight, answers it, and says by its status whether that worked."""

import asyncio
import signal
import time
from contextlib import suppress

import aiohttp
import pytest

from app.services.esims.activate import DRAIN_MARGIN_S
from tests.chaos.db_proxy import DatabaseProxy
from tests.chaos.line import Line
from tests.processes.installations import Installation, Server
from tests.processes.programs import until


async def refuses(server: Server) -> None:
    """It takes no new connections any more."""

    async def is_so() -> bool:
        return await server.answers("/healthz") == 0

    await until(is_so)


async def status_of(server: Server, order_id: int) -> int:
    """What a client hears that may be cut off: 0 for nothing."""
    shop = server.shop
    with suppress(aiohttp.ClientConnectionError):
        headers = shop.bearer | {"Content-Type": "application/json"}
        async with shop.http.post(
            f"{shop.url}/api/esims/activate", json={"order_id": order_id}, headers=headers
        ) as reply:
            return reply.status
    return 0


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_in_flight_is_finished_and_answered(site: Installation, kind: signal.Signals) -> None:
    server = await site.serve()
    order_id, unattended = await site.order(), await site.order()
    for order in (order_id, unattended):
        await site.script(order, "hold")
    assert (await server.activate(unattended, respond_async=True)).status == 202
    calls = [server.activating(order_id) for _ in range(3)]
    await site.held(2)
    server.send(kind)
    await refuses(server)
    assert server.is_running
    await site.release()
    replies = await asyncio.gather(*calls)
    assert sorted(reply.status for reply in replies) == [200, 200, 201]
    assert await server.ended() == 0
    for order in (order_id, unattended):
        assert await site.status(order) == "provisioned"
        assert len(site.issued(order)) == 1


async def test_a_call_that_ends_by_its_own_timeout_is_answered_too(site: Installation) -> None:
    server = await site.serve(CONNECTED_YOU_TIMEOUT_SECONDS="1")
    order_id, unattended = await site.order(), await site.order()
    for order in (order_id, unattended):
        await site.script(order, "hang_after")
    assert (await server.activate(unattended, respond_async=True)).status == 202
    call = server.activating(order_id)
    await site.hanging(2)
    asked_at = time.monotonic()
    server.send(signal.SIGTERM)
    assert (await call).problem == (502, "activation-outcome-unknown")
    assert await server.ended() == 0
    assert time.monotonic() - asked_at < 1 + DRAIN_MARGIN_S
    for order in (order_id, unattended):
        assert await site.outcomes(order) == ["unknown"]


async def test_a_second_ctrl_c_ends_at_once_and_says_that_something_was_left(site: Installation) -> None:
    server = await site.serve(CONNECTED_YOU_TIMEOUT_SECONDS="60")
    order_id = await site.order()
    await site.script(order_id, "hang_after")
    call = asyncio.create_task(status_of(server, order_id))
    await site.hanging()
    server.send(signal.SIGINT)
    await refuses(server)
    server.send(signal.SIGINT)
    assert await server.ended() == 1
    assert await call in {0, 502}  # no answer at all, or the problem document of an unknown outcome
    assert server.events("server.gave_up")
    assert await site.outcomes(order_id) == [None]


async def test_a_client_that_says_nothing_more_holds_up_no_end(site: Installation) -> None:
    server = await site.serve()
    host, _, port = server.shop.url.removeprefix("http://").partition(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
    silent[1][1].write(b"GET /healthz HTT")
    silent[2][1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await silent[2][0].readline() == b"HTTP/1.1 200 OK\r\n"
    asked_at = time.monotonic()
    server.send(signal.SIGTERM)
    assert await server.ended() == 0
    assert time.monotonic() - asked_at < DRAIN_MARGIN_S
    for _, writer in silent:
        writer.close()


async def test_a_server_that_leaves_says_so_and_serves_on_until_balancers_have_seen_it(site: Installation) -> None:
    server = await site.serve(SHUTDOWN_DELAY_SECONDS="300")
    line = await Line.open(server.shop.url)
    assert "connection" not in (await line.ask("GET", "/healthz", "")).headers
    server.send(signal.SIGTERM)

    async def says_so() -> bool:
        return await server.answers("/readyz") == 503

    await until(says_so)
    readiness = (await server.get("/readyz")).json()
    assert (readiness["status"], readiness["is_ending"], readiness["database"]) == ("not-ready", True, "ok")
    assert (await line.ask("GET", "/healthz", "")).headers["connection"] == "close"  # its next request goes elsewhere
    assert (await server.activate(await site.order())).status == 201
    assert {await server.answers("/healthz") for _ in range(100)} == {200}  # by then it would long be gone
    server.send(signal.SIGINT)  # whoever can't wait
    assert await server.ended() == 0


async def test_a_server_that_has_been_left_ends_by_itself(site: Installation) -> None:
    server = await site.serve("--workers", "2", SHUTDOWN_DELAY_SECONDS="0.5")
    server.send(signal.SIGTERM)
    assert await server.ended() == 0


async def test_ctrl_c_waits_for_no_balancer(site: Installation) -> None:
    server = await site.serve(SHUTDOWN_DELAY_SECONDS="300")
    server.send(signal.SIGINT)
    assert await server.ended() == 0


async def test_a_database_that_is_away_holds_up_no_end(site: Installation) -> None:
    with DatabaseProxy(site.settings["DATABASE_URL"]) as proxy:
        server = await site.serve(DATABASE_URL=proxy.url)
        await until(lambda: "Starting worker on queues" in server.log.read_text())
        proxy.ask("refuse", for_s=600)
        proxy.ask("cut")
        server.send(signal.SIGTERM)
        assert await server.ended() == 0
    assert not server.events("server.gave_up")
