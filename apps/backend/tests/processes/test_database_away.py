"""The database dies under a running server: requests are told so, what was bought is kept, and all goes on by itself afterwards."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from app import schema
from app.errors import DatabaseUnavailable
from app.postgres import hold
from app.services.esims.activate import DRAIN_MARGIN_S
from tests.api.serving import a_name, a_wish
from tests.postgres.clients import a_folder, guardians, is_idle, postmasters
from tests.processes.installations import Installation, Server, an_installation
from tests.processes.programs import until


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """The folder of a database server that tests may kill."""
    with a_folder() as folder:
        with hold(folder / "data") as server:
            schema.migrate(server.url)
            yield folder / "data"
        deadline = time.monotonic() + 30
        while not is_idle(folder / "data"):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture(scope="module")
async def site(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    with hold(data_dir) as database:
        async with an_installation(tmp_path_factory.mktemp("site"), database.url) as made:
            await made.stock()
            yield made


@pytest.fixture(scope="module")
async def server(site: Installation) -> Server:
    return await site.serve()


@asynccontextmanager
async def away(site: Installation, data_dir: Path) -> AsyncIterator[None]:
    """Its postmaster is killed, and its guardian, which would start it again at once, is kept from that."""
    [guardian] = guardians(data_dir)
    os.kill(guardian, signal.SIGSTOP)
    try:
        [postmaster] = postmasters(data_dir / "postgres")
        os.kill(postmaster, signal.SIGKILL)
        yield
    finally:
        os.kill(guardian, signal.SIGCONT)

    async def is_back() -> bool:
        try:
            async with site.db.read() as connection:
                return bool(await connection.scalar(text("SELECT true")))
        except DatabaseUnavailable:
            return False

    await until(is_back)


async def test_requests_are_told_that_it_is_away_and_afterwards_all_works(
    site: Installation, server: Server, data_dir: Path
) -> None:
    order_id = await site.order()
    wish = a_wish(site.sku)
    key = a_name("key")
    async with away(site, data_dir):
        replies = [
            await server.activate(order_id),
            await server.shop.place(wish, key=key),
            *[await server.get(path) for path in ("/api/orders", "/api/esims", "/api/plans", "/api/esims/1/qr.png")],
        ]
        replies += await asyncio.gather(*(server.activate(order_id) for _ in range(30)))
        assert {reply.problem for reply in replies} == {(503, "database-unavailable")}
        assert {reply.headers["Retry-After"] for reply in replies} == {"2"}
        assert {reply.json()["retryable"] for reply in replies} == {True}
        assert await server.answers("/readyz") == 503
        assert await server.answers("/healthz") == 200
        assert await server.answers("/metrics") == 200
    await until(server.is_ready)
    assert (await server.activate(order_id)).status == 201
    assert (await server.shop.place(wish, key=key)).status == 201
    await site.has_mail(order_id)


async def test_an_answer_that_came_meanwhile_is_stored(site: Installation, server: Server, data_dir: Path) -> None:
    order_id = await site.order()
    await site.script(order_id, "hold")
    calls = [server.activating(order_id) for _ in range(3)]
    await site.held()
    async with away(site, data_dir):
        await site.release()
        await until(lambda: server.events("esims.answer_waits_for_database"))
    assert sorted([(await call).status for call in calls]) == [200, 200, 201]
    assert await site.outcomes(order_id) == ["delivered"]
    assert len(site.issued(order_id)) == 1


async def test_connections_that_are_cut_cost_no_order(site: Installation, server: Server, data_dir: Path) -> None:
    """Whatever a transaction was at: a call is told that the database was away, or gets its eSIM."""
    is_over = asyncio.Event()

    async def buy() -> None:
        while not is_over.is_set():
            order_id = await site_order()
            while (reply := await server.activate(order_id)).status == 503:
                assert reply.problem == (503, "database-unavailable")
            assert reply.status in {200, 201}
            assert len(site.issued(order_id)) == 1

    async def site_order() -> int:
        wish, key = a_wish(site.sku), a_name("key")
        while (reply := await server.shop.place(wish, key=key)).status == 503:
            assert reply.problem == (503, "database-unavailable")
        assert reply.status == 201, reply
        return int(reply.json()["id"])

    buyers = [asyncio.create_task(buy()) for _ in range(8)]
    with psycopg.connect(site.db.url, autocommit=True) as connection:
        for _ in range(30):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'tribi%' AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.05)
    is_over.set()
    await asyncio.gather(*buyers)


async def test_a_server_that_started_before_its_database_is_ready_once_that_is(
    site: Installation, data_dir: Path
) -> None:
    async with away(site, data_dir):
        server = site.start_server()
        await until(lambda: server.events("server.started"))
        assert await server.answers("/readyz") == 503
        assert (await server.get("/api/orders")).problem == (503, "database-unavailable")
    await until(server.is_ready)
    assert (await server.activate(await site.order())).status == 201


async def test_a_server_that_cannot_store_an_answer_ends_in_time_and_says_so(
    site: Installation, server: Server, data_dir: Path
) -> None:
    timeout_s = 0.5
    ending = await site.serve(CONNECTED_YOU_TIMEOUT_SECONDS=str(timeout_s))
    order_id = await site.order()
    await site.script(order_id, "hang_after")
    assert (await ending.activate(order_id, respond_async=True)).status == 202
    async with away(site, data_dir):
        await until(lambda: ending.events("esims.answer_waits_for_database"))
        asked_at = time.monotonic()
        ending.send(signal.SIGTERM)
        assert await ending.ended() == 1
        assert time.monotonic() - asked_at < timeout_s + DRAIN_MARGIN_S + 2
    assert ending.events("server.gave_up")
    await site.becomes("unknown", order_id)  # by the sweep of `server`
    assert len(site.issued(order_id)) == 1
