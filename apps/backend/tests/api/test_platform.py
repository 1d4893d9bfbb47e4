"""/healthz, /readyz and /metrics."""

from datetime import timedelta
from typing import Any

import aiohttp
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, update

from app import main, schema
from app.house import House
from app.models import EsimProfile
from tests.api.conftest import a_database, a_shop, live_at, script, settings_on
from tests.api.serving import Shop, served
from tests.builders import a_plan
from tests.processes.programs import until
from tests.stand_in import StandIn


async def test_the_process_is_alive(shop: Shop) -> None:
    reply = await shop.get("/healthz", anonymous=True)
    assert (reply.status, reply.json()) == (200, {"status": "ok"})


async def test_with_a_migrated_database_it_is_ready(shop: Shop) -> None:
    reply = await shop.get("/readyz", anonymous=True)
    assert (reply.status, reply.json()) == (
        200,
        {
            "status": "ready",
            "database": "ok",
            "migrations": "ok",
            "provider": {"name": "CONNECTED_YOU", "is_live": False, "paused": False},
        },
    )
    assert reply.headers["Cache-Control"] == "no-store"


async def asked(url: str, path: str, **rest: Any) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(url + path, **rest) as reply:
        return reply.status, await reply.json(content_type=None)


@pytest.fixture
def missing_database(postgres_url: str) -> str:
    """The address of a database that isn't there."""
    with a_database(postgres_url) as url:
        pass
    return url


async def test_without_a_database_it_starts_and_is_alive_but_not_ready(missing_database: str) -> None:
    with served(settings_on(missing_database)) as server:
        assert await asked(server.url, "/healthz") == (200, {"status": "ok"})
        status, readiness = await asked(server.url, "/readyz")
        assert (status, readiness["status"], readiness["database"]) == (503, "not-ready", "away")
        for path in ("/api/plans", "/api/orders", "/api/esims/1"):
            status, problem = await asked(server.url, path, headers={"Authorization": "Bearer tribi_x"})
            assert (status, problem["type"], problem["retryable"]) == (503, "/problems/database-unavailable", True)


async def test_with_a_database_that_was_never_migrated_it_is_not_ready(postgres_url: str) -> None:
    with a_database(postgres_url, "template1") as url, served(settings_on(url)) as server:
        status, readiness = await asked(server.url, "/readyz")
        assert (status, readiness["status"], readiness["database"]) == (503, "not-ready", "ok")
        assert "tribi migrate" in readiness["migrations"]
        assert schema.head() in readiness["migrations"]
        for path in ("/api/plans", "/api/orders"):
            status, problem = await asked(server.url, path, headers={"Authorization": "Bearer tribi_x"})
            assert (status, problem["type"]) == (503, "/problems/database-unavailable")
        async with aiohttp.ClientSession() as http, http.get(server.url + "/metrics") as reply:
            assert reply.status == 200


async def test_with_a_database_that_is_behind_it_is_not_ready(postgres_url: str) -> None:
    with a_database(postgres_url) as url:
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0000'")
        with served(settings_on(url)) as server:
            status, readiness = await asked(server.url, "/readyz")
            assert (status, readiness["status"], readiness["database"]) == (503, "not-ready", "ok")
            assert "0000" in readiness["migrations"]


async def test_it_does_no_background_work_on_a_database_that_is_behind(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_on: list[str] = []

    async def work(house: House) -> None:
        begun_on.append(house.identity)

    for name in ("keep_sweeping", "keep_working"):
        monkeypatch.setattr(main, name, work)
    with a_database(postgres_url) as url:
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0000'")
        with served(settings_on(url)) as server:
            assert (await asked(server.url, "/readyz"))[0] == 503
            assert (await asked(server.url, "/api/plans"))[0] == 503
            with psycopg.connect(url) as connection:
                connection.execute("UPDATE alembic_version SET version_num = %s", [schema.head()])
            await until(lambda: len(begun_on) == 2)
    assert "" not in begun_on


async def test_with_a_database_that_is_ahead_it_is_ready(postgres_url: str) -> None:
    with a_database(postgres_url) as url:
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with served(settings_on(url)) as server:
            assert (await asked(server.url, "/readyz"))[0] == 200
            assert (await asked(server.url, "/api/plans"))[0] == 200


async def test_it_becomes_ready_when_the_database_comes_and_unready_when_it_goes(postgres_url: str) -> None:
    with a_database(postgres_url) as url:
        name = url.partition("@/")[2].partition("?")[0]

        def admin(statement: str) -> None:
            with psycopg.connect(postgres_url, autocommit=True) as connection:
                connection.execute(statement)

        admin(f"DROP DATABASE {name}")
        with served(settings_on(url)) as server:
            assert (await asked(server.url, "/readyz"))[0] == 503
            admin(f"CREATE DATABASE {name} TEMPLATE template_tribi")
            assert (await asked(server.url, "/readyz"))[0] == 200
            assert (await asked(server.url, "/api/plans"))[0] == 200
            admin(f"DROP DATABASE {name} WITH (FORCE)")
            assert (await asked(server.url, "/readyz"))[0] == 503
            status, problem = await asked(server.url, "/api/plans")
            assert (status, problem["type"]) == (503, "/problems/database-unavailable")
            assert await asked(server.url, "/healthz") == (200, {"status": "ok"})


# --- /metrics


async def series(shop: Shop) -> dict[tuple[str, ...], float]:
    """By name and labels' values, in the order of the labels' names."""
    reply = await shop.get("/metrics", anonymous=True)
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
        if sample.name.startswith("tribi_")
    }


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("none", "delivered"), ("status_402", "refused"), ("status_500_after", "unknown"), ("status_429", "held_off")],
)
async def test_activations_are_counted_by_outcome(live_shop: Shop, supplier: StandIn, fault: str, outcome: str) -> None:
    order = await live_shop.ordered()
    script(supplier, fault, order)
    before = await series(live_shop)
    await live_shop.activate(order["id"])
    after = await series(live_shop)
    of_outcome = ("tribi_activations_total", outcome, "CONNECTED_YOU")
    assert after[of_outcome] == before.get(of_outcome, 0) + 1
    seconds = ("tribi_provider_seconds_count", "CONNECTED_YOU")
    assert after[seconds] == before.get(seconds, 0) + 1


async def test_calls_in_flight_are_counted(live_shop: Shop, supplier: StandIn) -> None:
    order = await live_shop.ordered()
    script(supplier, "hold", order)
    in_flight = ("tribi_provider_calls_in_flight",)
    before = (await series(live_shop))[in_flight]
    await live_shop.activate(order["id"], headers={"Prefer": "respond-async"})
    await supplier.wait_until_held(1)
    assert (await series(live_shop))[in_flight] == before + 1
    supplier.release()
    await live_shop.activate(order["id"])
    assert (await series(live_shop))[in_flight] == before


async def test_what_waits_for_somebody_is_counted(postgres_url: str, own_supplier: StandIn) -> None:
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url, **live_at(own_supplier))) as shop:
            unknown, forgotten, _, fulfilled = [await shop.ordered() for _ in range(4)]
            script(own_supplier, "close_after", unknown)
            await shop.activate(unknown["id"])
            await shop.activate(fulfilled["id"])
            async with shop.db.begin() as connection:
                long_ago = func.now() - timedelta(minutes=16)
                of_these = EsimProfile.order_id.in_([forgotten["id"], fulfilled["id"]])
                await connection.execute(update(EsimProfile).where(of_these).values(created_at=long_ago))
            counted = await series(shop)
            assert counted[("tribi_esims_unknown",)] == 1
            assert counted[("tribi_orders_unfulfilled",)] == 1


async def test_nothing_personal_is_in_the_numbers(shop: Shop) -> None:
    sku = await a_plan(shop.db)
    customer = {"email": "metrics-canary@example.com", "name": "Metrics Canary"}
    payment = {"status": "paid", "reference": "metrics-canary-payment"}
    order = (await shop.place({"sku": sku, "customer": customer, "payment": payment}, key="metrics-canary-key")).json()
    esim = (await shop.activate(order["id"])).json()
    await shop.get(f"/api/esims/{esim['id']}/qr.png")
    await shop.get("/metrics-canary-path")
    text = (await shop.get("/metrics")).body.decode()
    secret = shop.bearer["Authorization"].removeprefix("Bearer ")
    for canary in ("canary", "CANARY", esim["matching_id"], esim["iccid"], "LPA:", secret, sku, "@"):
        assert canary not in text
    assert 'route="/api/esims/{esim_id}/qr.png"' in text
