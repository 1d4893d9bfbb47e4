"""Of the register: news, mails, webhooks and jobs, and what is done by the clock."""

import json
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock

from app.held import hold_if_older
from app.jobs.queue_app import build_queue_app, known_queues
from app.journal import Entry, hash_of
from app.queue import Job, enqueue, forget_finished_jobs, put_back_stalled, standing_of_jobs
from app.services.esim_providers import event_source
from app.services.esims.term import note_expiring
from app.services.messages.announce import announce_provisioned
from app.services.messages.deliver import deliver
from app.services.news.apply import apply_event, catch_up, catch_up_all
from app.services.news.receive import receive_event
from app.services.orders.forgotten import recover
from app.services.orders.place import NewOrder, place_order
from app.services.webhooks.deliver import claim
from app.services.webhooks.deliver import deliver as send
from app.services.webhooks.deliveries import forget_old_events, list_deliveries, redeliver
from app.services.webhooks.endpoints import change_endpoint, forget_former_secrets
from app.services.webhooks.line import Answer, Line, Outcome
from app.services.webhooks.standing import count_endpoints
from tests.bench.queries import Shop, an_event, an_iccid, query


@query("POST /api/webhooks/{provider}, and the job that applies it")
async def news(shop: Shop) -> None:
    settled = shop.settled()
    usage = {"event_type": "USAGE_ALERT", "data_consumed": 5000, "data_total": 5120, "percentage_consumed": 97.7}
    plan = {"event_type": "PRODUCT_STATUS_CHANGE", "product_status": "ACTIVATED"}
    events: list[dict[str, object]] = [
        an_event(settled.iccid),
        an_event(settled.iccid, **usage),
        an_event(shop.settled().iccid, **plan),
        an_event(an_iccid(shop).text),
        {"odd": next(shop.numbers)},
    ]
    for event in events:
        await apply_event(shop.house, await received(shop, event))


@query("what was parked, for one eSIM and for all", most_rows=lambda _: 1500)
async def parked(shop: Shop) -> None:
    """The sweep looks at each parked event: those of the other shop on the account, which are never taken up."""
    life = shop.settled()
    await received(shop, an_event(life.iccid))
    await catch_up(shop.house, life.id)
    await catch_up_all(shop.house)


@query("the message with what installs")
async def announce(shop: Shop) -> None:
    await announce_provisioned(shop.house, shop.settled().id)
    await deliver(shop.house, 10**12)


@query("plans that end within a day", most_rows=lambda shop: 4 * shop.a_day)
async def expiring(shop: Shop) -> None:
    """A day's plans, each time: those that were told of, too."""
    await note_expiring(shop.house.db)
    await note_expiring(shop.house.db)


@query("claiming what is due, sending it, and what came of it")
async def webhooks(shop: Shop) -> None:
    house, line = shop.house, AsyncMock(spec=Line)
    for is_enabled, outcome in ((True, Outcome.DELIVERED), (True, Outcome.REFUSED), (False, None)):
        for endpoint_id in shop.crowd.endpoints:
            async with house.db.begin() as connection:
                await change_endpoint(
                    connection, endpoint_id, is_enabled=is_enabled, allow_private=False, actor="bench"
                )
        if outcome is None:
            return
        await news(shop)
        async with house.db.begin() as connection:
            claimed = await claim(connection, house.keyring, {shop.crowd.endpoints[0]: 3})
        assert claimed
        line.post.return_value = Answer(outcome, 204, None, 5)
        for one in claimed:
            await send(house, line, one)


@query("GET /api/webhook-endpoints/{id}/deliveries, and by each status")
async def deliveries(shop: Shop) -> None:
    async with shop.house.db.read() as connection:
        middle = await list_deliveries(connection, limit=21)
        for endpoint_id in (None, *shop.crowd.endpoints, 10**6):
            for status in (None, "pending", "delivered", "failed"):
                await list_deliveries(connection, endpoint_id=endpoint_id, status=status, limit=21)
        await list_deliveries(connection, before_id=middle[-1].id - 1000, limit=21)
    endpoint_id = shop.crowd.endpoints[0]
    async with shop.house.db.begin() as connection:
        await change_endpoint(connection, endpoint_id, is_enabled=True, allow_private=False, actor="bench")
        await redeliver(
            connection, (await list_deliveries(connection, endpoint_id=endpoint_id, limit=1))[0].id, actor="bench"
        )
        await change_endpoint(connection, endpoint_id, is_enabled=False, allow_private=False, actor="bench")


@query("how webhooks stand")
async def standing_of_webhooks(shop: Shop) -> None:
    async with shop.house.db.read() as connection:
        await count_endpoints(connection)


@query("old webhook events, nightly", most_rows=5000)
async def old_events(shop: Shop) -> None:
    """A thousand at a time, with their deliveries."""
    async with shop.house.db.begin() as connection:
        oldest = "(SELECT id FROM webhook_events ORDER BY id LIMIT 20)"
        aged = f"UPDATE webhook_events SET occurred_at = occurred_at - interval '90 days' WHERE id IN {oldest}"  # noqa: S608
        await connection.exec_driver_sql(aged)
    await forget_old_events(shop.house.db)
    await forget_former_secrets(shop.house.db)


@query("the queue: putting in, working, putting back, and how it stands", most_rows=lambda shop: 4 * shop.a_day + 1500)
async def jobs(shop: Shop) -> None:
    async with shop.house.db.begin() as connection:
        await enqueue(connection, Job.ESIM_PROVISIONED, esim_id=shop.settled().id)
        await enqueue(connection, Job.PROVIDER_EVENT_RECEIVED, event_id=10**12)
        await enqueue(connection, Job.MAIL_WRITTEN, mail_id=10**12)
    async with shop.house.db.read() as connection:
        await standing_of_jobs(connection)
    async with build_queue_app(shop.house).open_async() as app:
        async with app.connector.pool.connection() as connection:  # type: ignore[attr-defined]  # psycopg's has one
            connection.add_notice_handler(shop.made["take"])
        await app.run_worker_async(
            queues=known_queues(app), wait=False, install_signal_handlers=False, listen_notify=False, concurrency=1
        )
    async with shop.house.db.begin() as connection:
        await put_back_stalled(connection)


@query("finished jobs, nightly", most_rows=5000)
async def finished_jobs(shop: Shop) -> None:
    """A thousand at a time, with their events."""
    async with shop.house.db.begin() as connection:
        oldest = "(SELECT id FROM procrastinate_jobs WHERE status = 'succeeded' ORDER BY id LIMIT 20)"
        aged = f"UPDATE procrastinate_events SET at = at - interval '90 days' WHERE job_id IN {oldest}"  # noqa: S608 - ours
        await connection.exec_driver_sql(aged)
    await forget_finished_jobs(shop.house.db)


@query("all of the queue's nightly tidying", most_rows=8000, reads_all="as `queries_office.forgetting`")
async def tidy(shop: Shop) -> None:
    app = build_queue_app(shop.house)
    async with app.open_async():
        async with app.connector.pool.connection() as connection:  # type: ignore[attr-defined]  # as above
            connection.add_notice_handler(shop.made["take"])
        await app.tasks["queue.tidy"].defer_async(timestamp=0)
        await app.run_worker_async(
            queues=["queue.tidy"], wait=False, install_signal_handlers=False, listen_notify=False, concurrency=1
        )


@query("comparing with the intent journal, and taking over what a restore forgot", most_rows=1200)
async def journal(shop: Shop) -> None:
    at = datetime.now(UTC)
    known, gone = shop.settled(), next(shop.numbers)
    async with shop.house.db.read() as connection:
        newest = "SELECT id, opened_at FROM provisioning_attempts WHERE id <= %s ORDER BY id DESC LIMIT 500"
        rows: Any = await connection.exec_driver_sql(newest, (known.id * 2,))
        asked = "SELECT created_at FROM orders WHERE id = %s"
        placed_at = (await connection.exec_driver_sql(asked, (known.order_id,))).scalar_one()
        entries = [Entry("order-1", 1, row[0], row[1], at, shop.provider.name, "key") for row in rows]
    assert not await hold_if_older(shop.house.db, entries[:1])
    assert not await hold_if_older(shop.house.db, entries)
    lost = [
        Entry(f"order-{known.order_id}", known.order_id, known.id * 2, at, placed_at, shop.provider.name, "key"),
        Entry(f"order-{gone}", gone, next(shop.numbers), at, at, shop.provider.name, hash_of(f"lost-{at}")),
    ]
    await hold_if_older(shop.house.db, lost)
    await recover(shop.house.db, [*entries, *lost], actor="bench")
    async with shop.house.db.begin() as connection:
        await place_order(
            connection,
            NewOrder("es-5gb-1", "ana@example.com", "Ana Traveller", "pay-lost"),
            idempotency_key=f"lost-{at}",
            key_id=shop.crowd.keys[0],
            provider=shop.provider.name,
            code_provider=shop.provider.name,
            is_live=False,
        )


async def received(shop: Shop, event: dict[str, object]) -> int:
    """An event that was received twice. Returns its number."""
    source = event_source(shop.house.settings, "CONNECTED_YOU")
    assert source is not None
    body = json.dumps(event).encode()
    for is_new in (True, False):
        assert await receive_event(shop.house.db, shop.house.vault, source, body) is is_new
    async with shop.house.db.read() as connection:
        number: int = (await connection.exec_driver_sql("SELECT max(id) FROM provider_events")).scalar_one()
    return number
