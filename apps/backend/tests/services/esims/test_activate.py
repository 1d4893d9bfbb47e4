"""Activation: one paid order becomes one eSIM, whatever happens around the call."""

import asyncio
import gc
from typing import Any

import pytest
from sqlalchemy import text

from app import failpoints
from app.db import Database
from app.errors import NotFound
from app.failpoints import Point
from app.house import House
from app.services.esim_providers import (
    EsimProvisioningError,
    SupplierNotConfigured,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
    SupplierUnreachable,
)
from app.services.esim_providers.connected_you import client
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims import intent
from app.services.esims.activate import Activations
from app.services.esims.answer import record_answer
from app.services.esims.errors import OrderNotPaid, OutcomeStillUnknown, ProviderBusy, ProviderOnHold, ShuttingDown
from app.services.esims.esim import place_of
from app.services.esims.intent import Looked
from app.services.esims.recover import sweep
from tests.builders import an_order
from tests.services.esims.conftest import MakeActivations, on_file
from tests.stand_in import StandIn, respond
from tests.statements import statements


async def activate(activations: Activations, order_id: int, *, respond_async: bool = False) -> str:
    """The way in which an activation ended, in one word."""
    activation = await activations.activate(order_id, actor="key:1", respond_async=respond_async)
    if not activation.is_done:
        return "under way"
    return "first" if activation.is_first else "replayed"


async def test_an_order_is_bought_once_and_everything_about_it_is_on_file(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_order(house.db)
    activation = await activations.activate(order_id, actor="key:7")

    [issued] = supplier.issued
    assert activation.is_first
    assert activation.esim.activation_code is not None
    assert activation.esim.activation_code.text == issued.activation_code
    assert activation.esim.iccid == issued.iccid
    assert activation.esim.provider_reference == f"order-{order_id}"
    assert activation.esim.plan_state == "not_started"
    filed = await on_file(house, order_id)
    [attempt] = filed.attempts
    assert (attempt.outcome, attempt.requested_by, attempt.response_status) == ("delivered", "key:7", 200)
    assert filed.audit == ["esims.activation_started", "esims.provisioned"]
    assert filed.jobs == 1
    payload = house.vault.keyring.open(filed.profile.provider_payload, place_of("provider_payload", filed.profile.id))
    assert issued.activation_code.encode() in payload


async def test_the_intent_is_committed_before_the_supplier_hears_of_the_order(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.script("hold")
    order_id = await an_order(house.db)
    task = asyncio.create_task(activate(activations, order_id))
    await supplier.wait_until_held(1)

    filed = await on_file(house, order_id)
    assert filed.profile.status == "provisioning"
    assert [attempt.outcome for attempt in filed.attempts] == [None]
    supplier.release()
    assert await task == "first"


async def test_no_connection_is_held_during_the_call(
    house: House, make_activations: MakeActivations, supplier: StandIn, database_url: str
) -> None:
    small = Database(database_url, pool_size=1)
    cramped = House(house.settings, small, house.keyring)
    await cramped.settle()
    activations = make_activations(of=cramped)
    orders = [await an_order(house.db) for _ in range(5)]
    supplier.script(*["hold"] * 5)
    tasks = [asyncio.create_task(activate(activations, order_id)) for order_id in orders]
    await supplier.wait_until_held(5)  # with one connection that would never come if a call kept it

    supplier.release()
    assert await asyncio.gather(*tasks) == ["first"] * 5
    await small.close()


async def test_activating_again_replays_and_calls_nobody(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_order(house.db)
    first = await activations.activate(order_id, actor="key:1")
    again = await activations.activate(order_id, actor="key:1")
    assert again.esim == first.esim
    assert not again.is_first
    assert supplier.request_count == 1


async def test_calls_at_once_share_one_flight(house: House, activations: Activations, supplier: StandIn) -> None:
    order_id = await an_order(house.db)
    endings = await asyncio.gather(*(activate(activations, order_id) for _ in range(50)))
    assert sorted(endings) == ["first"] + ["replayed"] * 49
    assert len(supplier.issued) == 1


async def test_calls_in_two_processes_make_one_purchase_with_one_result(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    here, there = make_activations(), make_activations()
    order_id = await an_order(house.db)
    endings = await asyncio.gather(*(activate(process, order_id) for _ in range(10) for process in (here, there)))
    assert sorted(endings) == ["first"] + ["replayed"] * 19
    assert len(supplier.issued) == 1


async def test_a_failure_is_the_same_for_all_who_waited_in_both_processes(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    supplier.script("hold")
    here, there = make_activations(), make_activations()
    order_id = await an_order(house.db)
    first = asyncio.create_task(activate(here, order_id))
    await supplier.wait_until_held(1)
    others = [asyncio.create_task(activate(process, order_id)) for process in (here, there, there)]
    await asyncio.sleep(0.3)  # the others join; were one late, it would find the refusal and buy, which fails the count
    supplier.release(then="status_402")

    failures = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(failure) for failure in failures] == [SupplierRefused] * 4
    assert supplier.request_count == 1


@pytest.mark.parametrize(
    ("fault", "error", "status", "outcome"),
    [
        ("status_400", SupplierRefused, "refused", "refused"),
        ("status_402", SupplierRefused, "refused", "refused"),
        ("status_404", SupplierRefused, "refused", "refused"),
        ("status_429", SupplierRateLimited, "pending", "held_off"),
        ("status_408_after", SupplierOutcomeUnknown, "unknown", "unknown"),
        ("status_409_before", SupplierOutcomeUnknown, "unknown", "unknown"),
        ("status_425_after", SupplierOutcomeUnknown, "unknown", "unknown"),
        ("status_500_before", SupplierOutcomeUnknown, "unknown", "unknown"),
        ("status_500_after", SupplierOutcomeUnknown, "unknown", "unknown"),
        ("status_204_after", SupplierOutcomeUnknown, "unknown", "unknown"),
        ("close_after", SupplierOutcomeUnknown, "unknown", "unknown"),
        ("reset_before", SupplierOutcomeUnknown, "unknown", "unknown"),
        ("half_json", SupplierOutcomeUnknown, "unknown", "unknown"),
        ("reference_other", SupplierOutcomeUnknown, "unknown", "unknown"),
    ],
)
async def test_each_failure_leaves_the_state_that_the_design_names(
    house: House,
    activations: Activations,
    supplier: StandIn,
    fault: str,
    error: type[EsimProvisioningError],
    status: str,
    outcome: str,
) -> None:
    supplier.script(fault)
    order_id = await an_order(house.db)
    with pytest.raises(error):
        await activate(activations, order_id)

    filed = await on_file(house, order_id)
    [attempt] = filed.attempts
    assert (filed.profile.status, attempt.outcome) == (status, outcome)
    assert attempt.closed_at is not None
    assert len(filed.audit) == 2
    assert filed.jobs == 0


async def test_a_refused_order_may_be_tried_again(house: House, activations: Activations, supplier: StandIn) -> None:
    supplier.script("status_422")
    order_id = await an_order(house.db)
    with pytest.raises(SupplierRefused):
        await activate(activations, order_id)
    assert await activate(activations, order_id) == "first"


async def test_an_unknown_order_is_never_sent_again(house: House, activations: Activations, supplier: StandIn) -> None:
    supplier.script("close_after")
    order_id = await an_order(house.db)
    with pytest.raises(SupplierOutcomeUnknown):
        await activate(activations, order_id)
    for _ in range(3):
        with pytest.raises(OutcomeStillUnknown):
            await activate(activations, order_id)
    assert supplier.request_count == 1


async def test_a_supplier_that_cannot_be_reached_leaves_the_order_open(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.refuse()
    order_id = await an_order(house.db)
    with pytest.raises(SupplierUnreachable):
        await activate(activations, order_id)
    assert (await on_file(house, order_id)).profile.status == "pending"
    await supplier.listen()
    assert await activate(activations, order_id) == "first"


async def test_retry_after_holds_every_order_back_without_a_call(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.script(respond(429, "slow down", {"Retry-After": "120"}))
    first, second = await an_order(house.db), await an_order(house.db)
    with pytest.raises(SupplierRateLimited) as limited:
        await activate(activations, first)
    assert limited.value.retry_after_s == 120

    with pytest.raises(ProviderOnHold) as held:
        await activate(activations, second)
    assert held.value.retry_after_s is not None
    assert 100 < held.value.retry_after_s <= 120
    assert supplier.request_count == 1


async def test_429_without_retry_after_holds_nothing_back(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.script("status_429")
    order_id = await an_order(house.db)
    with pytest.raises(SupplierRateLimited):
        await activate(activations, order_id)
    assert await activate(activations, order_id) == "first"


@pytest.mark.parametrize("status", ["cancelled", "refunded"])
async def test_only_a_paid_order_is_activated(
    house: House, activations: Activations, supplier: StandIn, status: str
) -> None:
    order_id = await an_order(house.db, status=status)
    with pytest.raises(OrderNotPaid):
        await activate(activations, order_id)
    assert supplier.request_count == 0


async def test_an_order_that_does_not_exist_is_not_found(activations: Activations) -> None:
    with pytest.raises(NotFound):
        await activate(activations, 999_999)


async def test_a_plan_without_a_code_is_not_configured_and_nothing_is_sent(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_order(house.db, code=None)
    with pytest.raises(SupplierNotConfigured):
        await activate(activations, order_id)
    filed = await on_file(house, order_id)
    assert (filed.profile.status, filed.attempts) == ("pending", [])
    assert supplier.connections == 0


async def test_a_plan_sold_without_a_code_takes_the_catalogues_code_of_today(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_order(house.db, code=None)
    async with house.db.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO plan_codes (plan_id, provider, external_id) "
                "SELECT plan_id, 'CONNECTED_YOU', 'CY-NEW' FROM orders WHERE id = :id"
            ),
            {"id": order_id},
        )
    assert await activate(activations, order_id) == "first"
    assert supplier.issued[0].plan_code == "CY-NEW"


async def test_a_code_that_another_provider_was_to_be_asked_for_is_not_asked_of_this_one(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_order(house.db, code="CY-TODAY")
    elsewhere = '{"provider": "ELSEWHERE", "external_id": "E-1"}'
    async with house.db.begin() as connection:
        await connection.execute(
            text("UPDATE orders SET plan_snapshot = plan_snapshot || CAST(:elsewhere AS jsonb)"),
            {"elsewhere": elsewhere},
        )
    await activate(activations, order_id)
    assert supplier.issued[0].plan_code == "CY-TODAY"


async def test_the_code_as_sold_wins_over_the_catalogues_code_of_today(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_order(house.db, code="CY-SOLD")
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE plan_codes SET external_id = 'CY-CHANGED'"))
    await activate(activations, order_id)
    assert supplier.issued[0].plan_code == "CY-SOLD"


async def test_who_waits_too_long_is_told_that_it_goes_on_and_it_does(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    supplier.script("hold")
    hasty, patient = make_activations(wait_s=0.2), make_activations()
    order_id = await an_order(house.db)
    assert await activate(hasty, order_id) == "under way"
    assert await activate(hasty, order_id) == "under way"
    waiting = asyncio.create_task(activate(patient, order_id))
    supplier.release()
    assert await waiting == "replayed"
    assert supplier.request_count == 1


async def test_respond_async_returns_once_the_intent_is_committed(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.script("hold")
    order_id = await an_order(house.db)
    assert await activate(activations, order_id, respond_async=True) == "under way"
    assert (await on_file(house, order_id)).profile.status == "provisioning"
    supplier.release()
    assert await activate(activations, order_id) == "replayed"


async def test_a_caller_that_gives_up_does_not_stop_the_purchase(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.script("hold")
    order_id = await an_order(house.db)
    caller = asyncio.create_task(activate(activations, order_id))
    await supplier.wait_until_held(1)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    supplier.release()
    assert await activate(activations, order_id) == "replayed"
    assert len(supplier.issued) == 1


async def test_without_a_free_slot_the_caller_is_told_busy_and_the_order_stays_open(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    supplier.script("hold")
    activations = make_activations(max_concurrency=1, wait_s=0.5)
    first, second = await an_order(house.db), await an_order(house.db)
    holding = asyncio.create_task(activate(activations, first, respond_async=True))
    await supplier.wait_until_held(1)
    with pytest.raises(ProviderBusy) as refused:
        await activate(activations, second)
    assert refused.value.retry_after_s == 1
    assert (await on_file(house, second)).profile.status == "pending"
    supplier.release()
    assert await holding == "under way"
    assert supplier.request_count == 1


async def test_repeats_need_no_slot(house: House, make_activations: MakeActivations, supplier: StandIn) -> None:
    activations = make_activations(max_concurrency=1, wait_s=2)
    done, held = await an_order(house.db), await an_order(house.db)
    await activate(activations, done)
    supplier.script("hold")
    holding = asyncio.create_task(activate(activations, held))
    await supplier.wait_until_held(1)
    assert await activate(activations, done) == "replayed"
    supplier.release()
    await holding


def sleeps_at(point: Point, monkeypatch: pytest.MonkeyPatch) -> None:
    """From there on the boot clock is past the time in which an order may be sent."""
    awake = intent.boot_clock

    def reached(at: Point, _: str) -> None:
        if at is point:
            monkeypatch.setattr(intent, "boot_clock", lambda: awake() + intent.SEND_WITHIN_S + 0.1)

    monkeypatch.setattr(failpoints, "reached", reached)


async def test_an_order_that_slept_between_intent_and_first_byte_is_not_sent(
    house: House, activations: Activations, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps_at(Point.INTENT_COMMITTED, monkeypatch)
    order_id = await an_order(house.db)
    with pytest.raises(SupplierUnreachable):
        await activate(activations, order_id)
    filed = await on_file(house, order_id)
    assert (filed.profile.status, filed.attempts[0].outcome) == ("pending", "not_sent")
    assert supplier.request_count == 0


async def test_an_intent_that_slept_before_its_commit_is_not_put_on_file(
    house: House, activations: Activations, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps_at(Point.INTENT_WRITTEN, monkeypatch)
    order_id = await an_order(house.db)
    with pytest.raises(ProviderBusy) as refused:
        await activate(activations, order_id)
    assert refused.value.retry_after_s == 1
    filed = await on_file(house, order_id)
    assert (filed.profile.status, filed.attempts) == ("pending", [])
    assert supplier.request_count == 0


async def test_who_was_swept_while_asleep_says_that_the_outcome_is_unknown(
    house: House, activations: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent, but the order is unknown by now: "send it again" would be wrong advice."""
    sleeps_at(Point.INTENT_COMMITTED, monkeypatch)
    stored = asyncio.Event()

    async def swept_first(db: Database, *told: Any) -> Any:
        async with db.begin() as connection:
            await connection.execute(text("UPDATE provisioning_attempts SET deadline_at = now() - interval '1 second'"))
        assert await sweep(db) == 1
        stored.set()
        return await record_answer(db, *told)

    monkeypatch.setattr("app.services.esims.keep.record_answer", swept_first)
    with pytest.raises(SupplierOutcomeUnknown):
        await activate(activations, await an_order(house.db))
    assert stored.is_set()


async def test_a_failure_that_nobody_waits_for_any_more_is_no_trouble_of_the_loops(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    supplier.script("hold")
    assert await activate(activations, await an_order(house.db), respond_async=True) == "under way"
    await supplier.wait_until_held(1)
    supplier.release(then="status_402")
    assert await activations.drain(10)
    gc.collect()
    assert complaints == []


async def test_what_the_caller_has_seen_is_not_asked_again(house: House, activations: Activations) -> None:
    asked = []
    for seen in (None, Looked("paid", "pending", None)):
        order_id = await an_order(house.db)
        with statements(house.db) as sent:
            await activations.activate(order_id, actor="key:1", looked=seen)
        asked.append(len(sent))
    assert asked[0] - asked[1] == 1


async def test_draining_finishes_what_is_in_flight_and_takes_nothing_new(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.script("hold")
    first, second = await an_order(house.db), await an_order(house.db)
    flying = asyncio.create_task(activate(activations, first))
    await supplier.wait_until_held(1)
    draining = asyncio.create_task(activations.drain(10))
    await asyncio.sleep(0)
    with pytest.raises(ShuttingDown) as refused:
        await activate(activations, second)
    assert refused.value.retry_after_s == 1
    supplier.release()
    assert await draining
    assert await flying == "first"


async def test_a_code_that_another_esim_holds_is_unknown_with_its_body_kept(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    first, second = await an_order(house.db), await an_order(house.db)
    await activate(activations, first)
    supplier.script("same_code")
    with pytest.raises(SupplierOutcomeUnknown):
        await activate(activations, second)
    filed = await on_file(house, second)
    assert (filed.profile.status, filed.attempts[0].outcome) == ("unknown", "unknown")
    assert filed.attempts[0].response_body is not None
    assert filed.profile.provider_payload is not None


async def test_a_number_that_no_card_has_may_come_twice(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    """A provider may put the same nonsense in place of each ICCID."""
    for _ in range(2):
        supplier.script(
            respond(
                200,
                lambda order: {
                    "data": {
                        "orderReference": order["orderReference"],
                        "activationCode": f"LPA:1$SMDP.EXAMPLE.COM${order['orderReference']}",
                        "iccid": "9" * 23,
                    }
                },
            )
        )
        assert await activate(activations, await an_order(house.db)) == "first"


async def test_odd_but_usable_codes_are_kept_and_flagged(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.script("code_sample")  # the blueprint's own LPA:1$XYZ
    order_id = await an_order(house.db)
    esim = (await activations.activate(order_id, actor="key:1")).esim
    assert esim.activation_code is not None
    assert esim.activation_code.text == "LPA:1$XYZ"
    assert "activation-code-not-sgp22" in esim.warnings


async def test_an_adapter_that_crashes_after_sending_leaves_an_unknown(
    house: House, make_activations: MakeActivations, provider: ConnectedYou, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(client, "read_delivered", crash)
    order_id = await an_order(house.db)
    with pytest.raises(SupplierOutcomeUnknown):
        await activate(make_activations(provider), order_id)
    assert (await on_file(house, order_id)).profile.status == "unknown"
