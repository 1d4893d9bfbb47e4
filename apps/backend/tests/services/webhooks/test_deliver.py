"""An event reaches whoever wants it, signed, once at least and under one id, whoever is away meanwhile."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import text
from standardwebhooks import WebhookVerificationError
from structlog.testing import capture_logs

import app.db as db_module
from app import metrics
from app.errors import DatabaseUnavailable
from app.house import House
from app.jobs.delivering import keep_delivering
from app.services.webhooks import deliver as deliver_module
from app.services.webhooks.deliver import AT_ONCE, claim
from app.services.webhooks.deliveries import EndpointDisabled, forget_old_events, list_deliveries, redeliver
from app.services.webhooks.dispatch import Dispatcher
from app.services.webhooks.endpoints import (
    change_endpoint,
    forget_former_secrets,
    remove_endpoint,
    rotate_secret,
)
from app.services.webhooks.events import OrderPaid
from app.services.webhooks.line import Line
from app.services.webhooks.schedule import JITTER, MOST_ATTEMPTS, PAUSES_S, pause_after
from tests.processes.programs import until
from tests.services.webhooks.conftest import (
    Heard,
    Receiver,
    an_endpoint,
    deliveries_on_file,
    endpoint_on_file,
    time_passes,
    told,
    until_heard,
    worked_off,
)

PAID = OrderPaid(order_id=7, esim_id=8, is_live=False)


def paid(order_id: int) -> OrderPaid:
    return OrderPaid(order_id=order_id, esim_id=order_id, is_live=False)


async def next_round(house: House) -> int:
    """The clock is moved to the next attempt, which is made."""
    async with house.db.read() as connection:
        pause = await connection.scalar(text("SELECT max(next_attempt_at) - now() FROM webhook_deliveries"))
    await time_passes(house.db, f"{pause.total_seconds() + 0.001} seconds")
    return await worked_off(house)


# --- a message


async def test_a_message_is_signed_as_the_reference_library_wants_it(telling_house: House, receiver: Receiver) -> None:
    _, secret = await an_endpoint(telling_house, receiver.url)
    await told(telling_house, PAID)
    assert await worked_off(telling_house) == 1
    [message] = receiver.heard
    payload = message.verified(secret)
    assert payload["type"] == "order.paid"
    assert payload["data"] == {"order_id": 7, "esim_id": 8, "is_live": False, "status": "paid"}
    assert abs(datetime.fromisoformat(payload["timestamp"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert message.message_id.startswith("msg_")
    [delivery] = await deliveries_on_file(telling_house.db)
    assert (delivery.status, delivery.attempts, delivery.next_attempt_at) == ("delivered", 1, None)
    assert [(one["outcome"], one["status"]) for one in delivery.history] == [("delivered", 204)]
    assert await worked_off(telling_house) == 0


async def test_each_endpoint_hears_the_events_that_it_wants_under_one_id(
    telling_house: House, receiver: Receiver
) -> None:
    await an_endpoint(telling_house, receiver.url + "/all")
    await an_endpoint(telling_house, receiver.url + "/paid", "order.paid", "esim.refused")
    await an_endpoint(telling_house, receiver.url + "/refused", "esim.refused")
    await told(telling_house, PAID)
    assert await worked_off(telling_house) == 2
    assert len({message.message_id for message in receiver.heard}) == 1


# --- attempts


async def test_ten_attempts_are_made_under_one_id_each_signed_anew_and_then_it_has_failed(
    telling_house: House, receiver: Receiver
) -> None:
    endpoint_id, secret = await an_endpoint(telling_house, receiver.url)
    receiver.always(503, "we are moving")
    await told(telling_house, PAID)
    failed = metrics.WEBHOOK_DELIVERIES_FAILED._value.get()  # noqa: SLF001 - prometheus-client has no other way to ask
    assert await worked_off(telling_house) == 1
    for attempt in range(2, MOST_ATTEMPTS + 1):
        assert await next_round(telling_house) == 1, attempt
    assert len(receiver.heard) == 10
    assert len({message.message_id for message in receiver.heard}) == 1
    assert len({message.body for message in receiver.heard}) == 1
    for message in receiver.heard:
        message.verified(secret)  # by its own fresh timestamp
    [delivery] = await deliveries_on_file(telling_house.db)
    assert (delivery.status, delivery.attempts, delivery.next_attempt_at) == ("failed", 10, None)
    assert {(one["outcome"], one["status"], one["said"]) for one in delivery.history} == {
        ("refused", 503, "we are moving")
    }
    assert metrics.WEBHOOK_DELIVERIES_FAILED._value.get() == failed + 1  # noqa: SLF001
    assert (await endpoint_on_file(telling_house.db, endpoint_id)).failing_since is not None
    await time_passes(telling_house.db, "10 days")
    assert await worked_off(telling_house) == 0


def test_the_schedule_is_the_standards_never_early_and_a_tenth_late_at_most() -> None:
    assert list(PAUSES_S) == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert sum(PAUSES_S) > 75 * 3600
    for attempts, pause_s in enumerate(PAUSES_S, start=1):
        drawn = [pause_after(attempts) or 0 for _ in range(200)]
        assert pause_s <= min(drawn) < max(drawn) <= pause_s * (1 + JITTER)
        assert max(drawn) - min(drawn) > pause_s * JITTER / 2
    assert pause_after(MOST_ATTEMPTS) is None


async def test_the_next_attempt_is_put_on_file_as_the_schedule_says(telling_house: House, receiver: Receiver) -> None:
    await an_endpoint(telling_house, receiver.url)
    receiver.always(500)
    await told(telling_house, PAID)
    await worked_off(telling_house)
    for pause_s in PAUSES_S:
        async with telling_house.db.read() as connection:
            left = await connection.scalar(
                text("SELECT extract(epoch FROM next_attempt_at - now()) FROM webhook_deliveries")
            )
        assert pause_s - 2 < float(left) <= pause_s * (1 + JITTER)
        await next_round(telling_house)


async def test_a_receiver_that_is_back_gets_what_it_missed_and_is_failing_no_more(
    telling_house: House, receiver: Receiver
) -> None:
    endpoint_id, _ = await an_endpoint(telling_house, receiver.url)
    receiver.always(500)
    await told(telling_house, paid(1), paid(2))
    await worked_off(telling_house)
    assert (await endpoint_on_file(telling_house.db, endpoint_id)).failing_since is not None
    receiver.answer = None
    assert await next_round(telling_house) == 2
    assert (await endpoint_on_file(telling_house.db, endpoint_id)).failing_since is None
    assert {one.status for one in await deliveries_on_file(telling_house.db)} == {"delivered"}


# --- who doesn't want to hear any more


async def test_410_disables_the_endpoint_and_says_so(telling_house: House, receiver: Receiver) -> None:
    endpoint_id, _ = await an_endpoint(telling_house, receiver.url)
    receiver.always(410)
    await told(telling_house, PAID)
    with capture_logs() as logs:
        await worked_off(telling_house)
    endpoint = await endpoint_on_file(telling_house.db, endpoint_id)
    assert endpoint.disabled_because == "gone"
    [line] = [line for line in logs if line["event"] == "webhooks.endpoint_disabled"]
    assert (line["log_level"], line["endpoint_id"], line["because"]) == ("error", endpoint_id, "gone")
    assert receiver.url not in repr(logs)
    [delivery] = await deliveries_on_file(telling_house.db)
    assert (delivery.status, delivery.attempts) == ("failed", 1)
    await told(telling_house, PAID)
    assert len(await deliveries_on_file(telling_house.db)) == 1
    async with telling_house.db.read() as connection:
        trail = await connection.scalar(text("SELECT details FROM audit_log WHERE tag = 'webhooks.disabled'"))
    assert trail == {"because": "gone"}


async def test_five_days_without_a_success_disable_the_endpoint(telling_house: House, receiver: Receiver) -> None:
    endpoint_id, _ = await an_endpoint(telling_house, receiver.url)
    receiver.always(500)
    await told(telling_house, paid(1))
    await worked_off(telling_house)
    await time_passes(telling_house.db, "4 days 23 hours")
    await worked_off(telling_house)
    assert (await endpoint_on_file(telling_house.db, endpoint_id)).disabled_at is None
    await time_passes(telling_house.db, "1 hour")
    await worked_off(telling_house)
    assert (await endpoint_on_file(telling_house.db, endpoint_id)).disabled_because == "failing"


async def test_who_is_enabled_again_gets_what_was_pending(telling_house: House, receiver: Receiver) -> None:
    endpoint_id, _ = await an_endpoint(telling_house, receiver.url)
    await told(telling_house, paid(1))
    for is_enabled, attempts in ((False, 0), (True, 1)):
        async with telling_house.db.begin() as connection:
            await change_endpoint(connection, endpoint_id, is_enabled=is_enabled, allow_private=True, actor="cli:test")
        await told(telling_house, paid(2))
        assert await worked_off(telling_house) == (attempts and 2)
    assert [message.json()["data"]["order_id"] for message in receiver.heard] == [1, 2]


async def test_an_endpoint_that_is_removed_hears_no_more(telling_house: House, receiver: Receiver) -> None:
    endpoint_id, _ = await an_endpoint(telling_house, receiver.url)
    await told(telling_house, PAID)
    async with telling_house.db.begin() as connection:
        await remove_endpoint(connection, endpoint_id, actor="cli:test")
    assert await deliveries_on_file(telling_house.db) == []
    assert await worked_off(telling_house) == 0


# --- secrets


async def test_while_a_secret_is_rotated_both_verify_and_a_day_later_only_the_newer_one(
    telling_house: House, receiver: Receiver
) -> None:
    endpoint_id, former = await an_endpoint(telling_house, receiver.url)
    async with telling_house.db.begin() as connection:
        endpoint, newer = await rotate_secret(connection, telling_house.keyring, endpoint_id, actor="cli:test")
    assert endpoint.previous_secret_until is not None
    await told(telling_house, paid(1))
    await worked_off(telling_house)
    for secret in (former, newer):
        receiver.heard[0].verified(secret)
    assert receiver.heard[0].headers["webhook-signature"].count("v1,") == 2
    await time_passes(telling_house.db, "24 hours 1 second")
    await told(telling_house, paid(2))
    await worked_off(telling_house)
    receiver.heard[1].verified(newer)
    with pytest.raises(WebhookVerificationError):
        receiver.heard[1].verified(former)
    assert (await endpoint_on_file(telling_house.db, endpoint_id)).previous_secret is not None
    await forget_former_secrets(telling_house.db)
    assert (await endpoint_on_file(telling_house.db, endpoint_id)).previous_secret is None


async def test_of_three_secrets_the_oldest_ends_at_once(telling_house: House, receiver: Receiver) -> None:
    endpoint_id, oldest = await an_endpoint(telling_house, receiver.url)
    for _ in range(2):
        async with telling_house.db.begin() as connection:
            await rotate_secret(connection, telling_house.keyring, endpoint_id, actor="cli:test")
    await told(telling_house, PAID)
    await worked_off(telling_house)
    assert receiver.heard[0].headers["webhook-signature"].count("v1,") == 2
    with pytest.raises(WebhookVerificationError):
        receiver.heard[0].verified(oldest)


# --- many, at once, and whoever dies


async def test_two_processes_send_each_message_once(telling_house: House, receiver: Receiver) -> None:
    await an_endpoint(telling_house, receiver.url)
    await told(telling_house, *(paid(n) for n in range(60)))
    attempts = await asyncio.gather(*(worked_off(telling_house) for _ in range(3)))
    assert sum(attempts) == len(receiver.heard) == 60
    assert receiver.duplicates == 0


async def test_no_more_than_so_many_go_to_an_endpoint_at_once_and_who_hangs_keeps_nobody_waiting(
    telling_house: House, receiver: Receiver
) -> None:
    released = asyncio.Event()
    at_once = most = 0

    async def hang(message: Heard) -> web.StreamResponse:
        nonlocal at_once, most
        if message.headers["host"].startswith("127.0.0.1"):
            return web.Response(status=204)
        at_once += 1
        most = max(most, at_once)
        await released.wait()
        at_once -= 1
        return web.Response(status=204)

    receiver.answer = hang
    slow_id, _ = await an_endpoint(telling_house, receiver.url.replace("127.0.0.1", "localhost"))
    quick_id, _ = await an_endpoint(telling_house, receiver.url)
    await told(telling_house, *(paid(n) for n in range(40)))
    working = asyncio.create_task(keep_delivering(telling_house))

    async def all_quick_ones_are_there() -> bool:
        async with telling_house.db.read() as connection:
            done = await list_deliveries(connection, endpoint_id=quick_id, status="delivered")
        return len(done) == 40

    await until(all_quick_ones_are_there)
    assert (at_once, most) == (AT_ONCE, AT_ONCE)
    async with telling_house.db.read() as connection:
        assert await list_deliveries(connection, endpoint_id=slow_id, status="delivered") == []
    released.set()
    await until_heard(receiver, 80)
    working.cancel()
    await asyncio.wait([working])
    assert most == AT_ONCE
    assert len(receiver.heard) == 80
    assert {one.status for one in await deliveries_on_file(telling_house.db)} == {"delivered"}


async def test_a_process_that_ends_finishes_what_it_has_begun(telling_house: House, receiver: Receiver) -> None:
    released = asyncio.Event()

    async def hang(_: Heard) -> web.StreamResponse:
        await released.wait()
        return web.Response(status=204)

    receiver.answer = hang
    await an_endpoint(telling_house, receiver.url)
    await told(telling_house, PAID)
    working = asyncio.create_task(keep_delivering(telling_house))
    await until_heard(receiver, 1)
    working.cancel()
    await asyncio.sleep(0)
    assert not working.done()
    released.set()
    await asyncio.wait([working])
    [delivery] = await deliveries_on_file(telling_house.db)
    assert delivery.status == "delivered"


async def test_what_a_dead_process_had_claimed_is_sent_by_another_once_its_lease_is_over(
    telling_house: House, receiver: Receiver
) -> None:
    await an_endpoint(telling_house, receiver.url)
    await told(telling_house, PAID)
    async with telling_house.db.begin() as connection:
        [claimed] = await claim(connection, telling_house.keyring, {})
    assert await worked_off(telling_house) == 0
    await time_passes(telling_house.db, "61 seconds")
    assert await worked_off(telling_house) == 1
    # The dead one was only asleep: what it notes now is no longer its to note.
    line = Line(allow_private=True)
    await deliver_module.deliver(telling_house, line, claimed)
    await line.close()
    [delivery] = await deliveries_on_file(telling_house.db)
    assert (delivery.status, delivery.attempts, len(delivery.history)) == ("delivered", 1, 1)
    assert len({message.message_id for message in receiver.heard}) == 1


async def test_who_slept_over_its_lease_notes_nothing_while_another_is_at_it(
    telling_house: House, receiver: Receiver
) -> None:
    await an_endpoint(telling_house, receiver.url)
    await told(telling_house, PAID)
    claims = []
    for _ in range(2):
        async with telling_house.db.begin() as connection:
            claims += await claim(connection, telling_house.keyring, {})
        await time_passes(telling_house.db, "61 seconds")
    async with telling_house.db.begin() as connection:
        claims += await claim(connection, telling_house.keyring, {})
    sleeper, _, awake = claims
    receiver.always(500)
    line = Line(allow_private=True)
    await deliver_module.deliver(telling_house, line, sleeper)
    [delivery] = await deliveries_on_file(telling_house.db)
    assert (delivery.attempts, delivery.leased_until) == (0, awake.lease)
    await deliver_module.deliver(telling_house, line, awake)
    await line.close()
    [delivery] = await deliveries_on_file(telling_house.db)
    assert (delivery.status, delivery.attempts, delivery.leased_until) == ("pending", 1, None)


async def test_a_database_that_blinks_after_the_answer_costs_no_second_message(
    telling_house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db_module, "_STORE_AGAIN_AFTER_S", 0.01)
    note, failures = deliver_module._note_answer, iter(range(3))  # noqa: SLF001 - where the database is met

    async def blink(*arguments: Any) -> None:
        if next(failures, None) is not None:
            raise DatabaseUnavailable("away")
        await note(*arguments)

    monkeypatch.setattr(deliver_module, "_note_answer", blink)
    await an_endpoint(telling_house, receiver.url)
    await told(telling_house, PAID)
    assert await worked_off(telling_house) == 1
    assert len(receiver.heard) == 1
    assert [one.status for one in await deliveries_on_file(telling_house.db)] == ["delivered"]


async def test_a_delivery_that_breaks_us_is_told_and_stops_nobody(
    telling_house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    await an_endpoint(telling_house, receiver.url)
    await told(telling_house, PAID)
    line = Line(allow_private=True)
    dispatcher = Dispatcher(telling_house, line)
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr("app.services.webhooks.dispatch.deliver", broken)
        assert await dispatcher.begin_due() == 1
        await dispatcher.finish()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["webhooks.delivery_broke"]
    await time_passes(telling_house.db, "61 seconds")
    assert await dispatcher.begin_due() == 1
    await dispatcher.finish()
    await line.close()
    assert len(receiver.heard) == 1


async def test_what_failed_together_does_not_come_back_together(telling_house: House, receiver: Receiver) -> None:
    await an_endpoint(telling_house, receiver.url)
    receiver.always(500)
    await told(telling_house, *(paid(n) for n in range(30)))
    await worked_off(telling_house)
    for _ in range(2):
        await next_round(telling_house)
    times = sorted(one.next_attempt_at for one in await deliveries_on_file(telling_house.db))
    assert (times[-1] - times[0]).total_seconds() > 0.5 * JITTER * PAUSES_S[2]
    assert all((later - earlier).total_seconds() < PAUSES_S[2] * JITTER / 2 for earlier, later in pairwise(times))


# --- again, by hand


async def test_a_redelivery_goes_out_at_once_under_the_same_id_and_has_ten_attempts_anew(
    telling_house: House, receiver: Receiver
) -> None:
    await an_endpoint(telling_house, receiver.url)
    receiver.always(500)
    await told(telling_house, PAID)
    await worked_off(telling_house)
    for _ in range(9):
        await next_round(telling_house)
    [failed] = await deliveries_on_file(telling_house.db)
    assert failed.status == "failed"
    receiver.answer = None
    async with telling_house.db.begin() as connection:
        again = await redeliver(connection, failed.id, actor="cli:test")
    assert (again.status, again.attempts) == ("pending", 0)
    assert await worked_off(telling_house) == 1
    [delivery] = await deliveries_on_file(telling_house.db)
    assert (delivery.status, len(delivery.history)) == ("delivered", 11)
    assert len({message.message_id for message in receiver.heard}) == 1
    async with telling_house.db.begin() as connection:
        await redeliver(connection, failed.id, actor="cli:test")  # what was delivered, too
    assert await worked_off(telling_house) == 1


async def test_a_redelivery_of_what_is_under_way_sends_it_no_second_time(
    telling_house: House, receiver: Receiver
) -> None:
    await an_endpoint(telling_house, receiver.url)
    await told(telling_house, PAID)
    async with telling_house.db.begin() as connection:
        [claimed] = await claim(connection, telling_house.keyring, {})
    async with telling_house.db.begin() as connection:
        await redeliver(connection, claimed.id, actor="cli:test")
    assert await worked_off(telling_house) == 0
    line = Line(allow_private=True)
    await deliver_module.deliver(telling_house, line, claimed)
    await line.close()
    assert len(receiver.heard) == 1


async def test_nothing_is_sent_again_to_an_endpoint_that_is_disabled(telling_house: House, receiver: Receiver) -> None:
    endpoint_id, _ = await an_endpoint(telling_house, receiver.url)
    await told(telling_house, PAID)
    await worked_off(telling_house)
    [delivery] = await deliveries_on_file(telling_house.db)
    async with telling_house.db.begin() as connection:
        await change_endpoint(connection, endpoint_id, is_enabled=False, allow_private=True, actor="cli:test")
    with pytest.raises(EndpointDisabled):
        async with telling_house.db.begin() as connection:
            await redeliver(connection, delivery.id, actor="cli:test")
    assert [one.status for one in await deliveries_on_file(telling_house.db)] == ["delivered"]


# --- the log


async def test_the_log_forgets_after_30_days(telling_house: House, receiver: Receiver) -> None:
    await an_endpoint(telling_house, receiver.url)
    await told(telling_house, paid(1), paid(2))
    await worked_off(telling_house)
    async with telling_house.db.begin() as connection:
        await connection.execute(
            text(
                "UPDATE webhook_events SET occurred_at = now() - interval '30 days 1 second' WHERE data @> '{\"order_id\": 1}'"
            )
        )
    await forget_old_events(telling_house.db)
    async with telling_house.db.read() as connection:
        left = await list_deliveries(connection)
    assert [one.payload["data"]["order_id"] for one in left] == [2]


async def test_a_delivery_remembers_its_last_50_attempts(telling_house: House, receiver: Receiver) -> None:
    await an_endpoint(telling_house, receiver.url)
    await told(telling_house, PAID)
    await worked_off(telling_house)
    async with telling_house.db.begin() as connection:
        await connection.execute(
            text("UPDATE webhook_deliveries SET history = (SELECT jsonb_agg(n) FROM generate_series(1, 50) n)")
        )
        [delivery] = await list_deliveries(connection)
        await redeliver(connection, delivery.id, actor="cli:test")
    await worked_off(telling_house)
    [on_file] = await deliveries_on_file(telling_house.db)
    assert (len(on_file.history), on_file.history[0], on_file.history[-1]["outcome"]) == (50, 2, "delivered")
