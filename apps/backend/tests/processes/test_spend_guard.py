"""What keeps a shop from spending too much, as an operator sees it: the banner, the caps, and the switch."""

import asyncio
import json
from collections import Counter

from tests.processes.installations import Installation
from tests.processes.programs import until


async def test_caps_hold_for_all_workers_and_say_so_everywhere(installation: Installation) -> None:
    server = await installation.serve("--workers", "2", LIVE_ESIMS_PER_HOUR="10", DATABASE_POOL_SIZE="5")
    await until(lambda: len(server.events("server.live_orders_on")) == 2)
    banners = server.events("server.live_orders_on")
    assert {(banner["level"], banner["cap"]) for banner in banners} == {("warning", "10 an hour, any number a day")}
    assert all(banner["banner"].startswith("LIVE ORDERS ARE ON") for banner in banners)

    orders = [await installation.order() for _ in range(50)]
    replies = await asyncio.gather(*(server.activate(order_id) for order_id in orders))
    assert Counter(reply.status for reply in replies) == {201: 10, 503: 40}
    assert (await installation.supplier.get("state"))["requests"] == 10
    refused = next(reply for reply in replies if reply.status == 503)
    assert refused.problem == (503, "provider-paused")
    assert refused.json()["detail"].startswith("The shop's own limit of eSIMs an hour or a day is used up.")
    assert 0 < int(refused.headers["Retry-After"]) <= 3600

    provider = (await server.get("/readyz")).json()["provider"]
    assert (provider["paused"], provider["by"], provider["reason"]) == (True, "cap", "LIVE_ESIMS_PER_HOUR")
    assert await server.metric("tribi_provider_paused", provider="CONNECTED_YOU", by="cap") == 1
    assert await server.metric("tribi_provider_paused", provider="CONNECTED_YOU", by="person") == 0
    assert await server.metric("tribi_not_sent_while_paused_total", by="cap") == 40
    assert await server.metric("tribi_live_esims", window="hour") == 10
    assert await server.metric("tribi_live_esims_cap", window="hour") == 10
    assert server.events("providers.cap_reached")


async def test_a_person_pauses_a_provider_for_a_server_that_runs(installation: Installation) -> None:
    server = await installation.serve()
    [banner] = server.events("server.live_orders_on")
    assert banner["cap"] == "NONE: set LIVE_ESIMS_PER_HOUR and LIVE_ESIMS_PER_DAY"
    order_id = await installation.order()

    paused = await installation.run("providers", "pause", "connected_you", "--reason", "their prices doubled")
    assert (paused.status, paused.stdout) == (0, "CONNECTED_YOU is paused: nothing is sent to it.\n")
    reply = await server.activate(order_id)
    assert (reply.problem, reply.headers["Retry-After"]) == ((503, "provider-paused"), "60")
    provider = (await server.get("/readyz")).json()["provider"]
    assert (provider["paused"], provider["by"], "reason" in provider) == (True, "person", False)
    assert await server.metric("tribi_provider_paused", provider="CONNECTED_YOU", by="person") == 1

    listed = await installation.run("providers", "list", "--json")
    [_, theirs] = json.loads(listed.stdout)
    [obstacle] = theirs["obstacles"]
    assert (theirs["name"], theirs["is_live"], theirs["paused"]) == ("CONNECTED_YOU", True, True)
    assert (obstacle["by"], obstacle["reason"]) == ("person", "their prices doubled")
    assert obstacle["actor"].startswith("cli:")
    assert theirs["live_esims"] == {"last_hour": 0, "per_hour": 0, "last_day": 0, "per_day": 0}

    resumed = await installation.run("providers", "resume", "connected_you")
    assert (resumed.status, resumed.stdout) == (0, "CONNECTED_YOU is resumed.\n")
    assert (await server.activate(order_id)).status == 201


async def test_a_worker_says_that_live_orders_are_on_and_a_dry_run_does_not(installation: Installation) -> None:
    live = installation.start("worker", LIVE_ESIMS_PER_DAY="7")
    dry = installation.start("worker", CONNECTED_YOU_DRY_RUN="true")
    await until(lambda: live.events("worker.started") and dry.events("worker.started"))
    assert [event["cap"] for event in live.events("server.live_orders_on")] == ["any number an hour, 7 a day"]
    assert dry.events("server.live_orders_on") == []
