"""Unknown orders that are sent again, to a provider of which the operator has set that it doesn't bill a reference twice."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import text

from app.errors import NotFound, ProviderPaused
from app.house import House
from app.services.esim_providers import Dedupe, SupplierOutcomeUnknown
from app.services.esim_providers.connected_you.client import CAPABILITIES, ConnectedYou
from app.services.esim_providers.connected_you.wire import Wire
from app.services.esims.activate import Activations
from app.services.esims.errors import OutcomeStillUnknown, ProviderOnHold, ShuttingDown
from app.services.esims.esim import place_of
from app.services.esims.intent import attempt_place
from app.services.esims.recover import sweep
from app.services.esims.replay import MOST_REPLAYS, CannotReplay, NothingToReplay, due_for_replay
from app.services.esims.resolve import CannotResolve, resolve_issued, resolve_not_issued
from app.values.activation_code import ActivationCode
from tests.builders import an_order
from tests.services.esims.conftest import TIMEOUT_S, MakeActivations, OnFile, on_file
from tests.stand_in import StandIn

A_DAY_S = 24 * 3600


@pytest.fixture
async def provider(supplier: StandIn) -> AsyncIterator[ConnectedYou]:
    """One that gives its word on repeated references, and keeps it."""
    supplier.dedupe = True
    live = ConnectedYou(
        partner_id="partner-of-tests",
        api_key="key-of-tests",
        base_url=supplier.url,
        line=Wire("key-of-tests", TIMEOUT_S),
        capabilities=replace(CAPABILITIES, dedupe=Dedupe.REPLAY, replay_window_s=A_DAY_S),
    )
    yield live
    await live.close()


async def an_unknown(house: House, activations: Activations, supplier: StandIn, fault: str = "close_after") -> int:
    """An order that was sent and never answered. Returns its id."""
    order_id = await an_order(house.db)
    supplier.script(fault, reference=f"order-{order_id}")
    with pytest.raises(SupplierOutcomeUnknown):
        await activations.activate(order_id, actor="key:1")
    assert (await on_file(house, order_id)).profile.status == "unknown"
    return order_id


async def time_passes(house: House, seconds: float) -> None:
    async with house.db.begin() as connection:
        await connection.execute(
            text(
                "UPDATE provisioning_attempts SET opened_at = opened_at - make_interval(secs => :s),"
                " deadline_at = deadline_at - make_interval(secs => :s), closed_at = closed_at - make_interval(secs => :s)"
            ),
            {"s": seconds},
        )


async def replayed(activations: Activations) -> int:
    """Sends out what is due, and waits for its end. Returns how many that were."""
    begun = await activations.replay_due()
    await asyncio.gather(*(flight.task for flight in activations._flights.values()), return_exceptions=True)  # noqa: SLF001
    return begun


def outcomes(filed: OnFile) -> list[str | None]:
    return [attempt.outcome for attempt in filed.attempts]


async def test_an_unknown_order_is_sent_again_and_gets_the_esim_that_was_bought_first(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    assert await replayed(activations) == 1
    filed = await on_file(house, order_id)
    assert (filed.profile.status, outcomes(filed), filed.jobs) == ("provisioned", ["unknown", "delivered"], 1)
    assert [attempt.is_replay for attempt in filed.attempts] == [False, True]
    assert filed.audit[-2:] == ["esims.replayed", "esims.provisioned"]
    activation = await activations.activate(order_id, actor="key:1")
    [issued] = supplier.issued
    assert activation.esim.activation_code is not None
    assert activation.esim.activation_code.text == issued.activation_code


async def test_a_replay_is_the_same_request_to_the_letter(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    async with house.db.begin() as connection:  # what the catalogue says by now is another question
        await connection.execute(text("UPDATE plan_codes SET external_id = 'CY-OTHER'"))
        await connection.execute(text("UPDATE orders SET customer_name = 'Somebody Else'"))
    await replayed(activations)
    first, second = supplier.requests_for(f"order-{order_id}")
    assert first.body == second.body
    filed = await on_file(house, order_id)
    kept = [
        house.vault.keyring.open(attempt.request, attempt_place("request", attempt.id)) for attempt in filed.attempts
    ]
    assert kept == [first.body, first.body]


async def test_a_provider_that_gives_no_word_is_never_sent_an_order_again(
    house: House, make_activations: MakeActivations, provider: ConnectedYou, supplier: StandIn
) -> None:
    silent = make_activations(replace(provider, capabilities=CAPABILITIES))
    order_id = await an_unknown(house, silent, supplier)
    assert await replayed(silent) == 0
    with pytest.raises(CannotReplay) as caught:
        await silent.replay(order_id, actor="cli:eva")
    assert str(caught.value) == (
        f"order {order_id} can't be sent again: the provider isn't known to recognise a repeated order "
        "(CONNECTED_YOU_UNKNOWN_OUTCOME is `hold`)"
    )
    assert supplier.request_count == 1


@pytest.mark.parametrize(
    "other",
    [
        {"base_url": "https://production.example.com"},
        {"partner_id": "another-partner"},
        {"name": "ANOTHER"},
    ],
    ids=["base-url", "partner-id", "provider"],
)
async def test_only_what_was_sent_to_the_present_account_is_sent_again(
    house: House,
    make_activations: MakeActivations,
    provider: ConnectedYou,
    supplier: StandIn,
    other: dict[str, str],
) -> None:
    order_id = await an_unknown(house, make_activations(), supplier)
    name = other.pop("name", None)
    elsewhere = replace(provider, **other)  # type: ignore[arg-type]  # fields of it
    if name:
        elsewhere = type("Another", (ConnectedYou,), {"name": name})(**vars(provider))
    activations = make_activations(elsewhere)
    assert await replayed(activations) == 0
    with pytest.raises(
        CannotReplay, match=r": it was sent under another base URL or partner id than the present ones$"
    ):
        await activations.replay(order_id, actor="cli:eva")
    assert supplier.request_count == 1


async def test_a_trial_order_is_not_sent_again_as_a_live_one(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE provisioning_attempts SET is_live = false"))
    assert await replayed(activations) == 0
    with pytest.raises(CannotReplay):
        await activations.replay(order_id, actor="cli:eva")


async def test_replays_rest_longer_each_time_and_end_after_five(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    rests_s = []
    supplier.script(*["status_500_before"] * 10, reference=f"order-{order_id}")
    for _ in range(MOST_REPLAYS):
        rested_s = 0
        while await replayed(activations) == 0:
            await time_passes(house, 30)
            rested_s += 30
        rests_s.append(rested_s)
    assert rests_s == [0, 60, 600, 3600, 6 * 3600]
    await time_passes(house, 8 * 3600)
    assert await replayed(activations) == 0
    filed = await on_file(house, order_id)
    assert (filed.profile.status, outcomes(filed)) == ("unknown", ["unknown"] * (1 + MOST_REPLAYS))


async def test_after_the_replay_hours_only_a_person_sends_an_order_again(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    await time_passes(house, A_DAY_S + 1)
    assert await replayed(activations) == 0
    activation = await activations.replay(order_id, actor="cli:eva")
    assert activation.esim.status == "provisioned"
    assert (await on_file(house, order_id)).attempts[-1].requested_by == "cli:eva"


async def test_a_refusal_ends_the_replays_and_not_the_question(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    supplier.script("status_422", reference=f"order-{order_id}")
    await replayed(activations)
    await time_passes(house, 8 * 3600)
    assert await replayed(activations) == 0
    filed = await on_file(house, order_id)
    assert (filed.profile.status, outcomes(filed)) == ("unknown", ["unknown", "refused"])
    with pytest.raises(OutcomeStillUnknown):
        await activations.activate(order_id, actor="key:1")
    assert (await activations.replay(order_id, actor="cli:eva")).esim.status == "provisioned"


async def test_the_last_words_of_a_replay_are_the_profiles_payload(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    supplier.script("status_422", reference=f"order-{order_id}")
    with pytest.raises(OutcomeStillUnknown, match="HTTP 422"):
        await activations.replay(order_id, actor="cli:eva")
    filed = await on_file(house, order_id)
    place = place_of("provider_payload", filed.profile.id)
    attempt = filed.attempts[-1]
    assert house.vault.keyring.open(filed.profile.provider_payload, place) == house.vault.keyring.open(
        attempt.response_body, attempt_place("response_body", attempt.id)
    )


async def test_a_replay_that_could_not_be_sent_leaves_the_question_open(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    supplier.refuse()
    await replayed(activations)
    filed = await on_file(house, order_id)
    assert (filed.profile.status, outcomes(filed)) == ("unknown", ["unknown", "not_sent"])
    await supplier.listen()
    await time_passes(house, 60)
    await replayed(activations)
    assert (await on_file(house, order_id)).profile.status == "provisioned"


async def test_nothing_is_sent_again_while_the_provider_asks_to_wait(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    supplier.script("status_429_seconds-30", reference=f"order-{order_id}")
    await replayed(activations)
    await time_passes(house, 600)
    with pytest.raises(ProviderOnHold):
        await activations.replay(order_id, actor="cli:eva")
    assert await replayed(activations) == 1  # begun, and turned away
    assert supplier.request_count == 2
    assert outcomes(await on_file(house, order_id)) == ["unknown", "held_off"]


async def test_two_processes_send_an_order_again_once(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    here, there = make_activations(), make_activations()
    order_ids = [await an_unknown(house, here, supplier) for _ in range(5)]
    await asyncio.gather(replayed(here), replayed(there))
    for order_id in order_ids:
        assert len(supplier.requests_for(f"order-{order_id}")) == 2


async def test_who_activates_during_a_replay_gets_its_esim(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    supplier.script("hold_after", reference=f"order-{order_id}")
    await activations.replay_due()
    await supplier.wait_until_held(1)
    calls = [asyncio.create_task(activations.activate(order_id, actor="key:1")) for _ in range(3)]
    await asyncio.sleep(0)
    supplier.release()
    assert [(await call).is_first for call in calls] == [False] * 3
    assert (await calls[0]).esim.status == "provisioned"


async def test_who_activates_while_a_person_has_it_sent_again_waits_for_that(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    supplier.script("hold")
    replaying = asyncio.create_task(activations.replay(order_id, actor="cli:eva"))
    await supplier.wait_until_held(1)
    activating = asyncio.create_task(activations.activate(order_id, actor="key:1"))
    await asyncio.sleep(0)
    supplier.release()
    replayed_by_hand, activation = await asyncio.gather(replaying, activating)
    assert (replayed_by_hand.is_first, activation.is_first) == (True, False)
    assert activation.esim == replayed_by_hand.esim
    assert supplier.request_count == 2


async def test_who_activates_during_a_failing_replay_is_told_that_it_is_still_unknown(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    supplier.script("hold_before", reference=f"order-{order_id}")
    await activations.replay_due()
    await supplier.wait_until_held(1)
    call = asyncio.create_task(activations.activate(order_id, actor="key:1"))
    await asyncio.sleep(0)
    supplier.release(then="status_401")
    with pytest.raises(OutcomeStillUnknown):
        await call


async def test_elsewhere_an_order_that_is_sent_again_is_still_unknown(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    here, there = make_activations(), make_activations()
    order_id = await an_unknown(house, here, supplier)
    supplier.script("hold_after", reference=f"order-{order_id}")
    await here.replay_due()
    await supplier.wait_until_held(1)
    with pytest.raises(OutcomeStillUnknown):
        await there.activate(order_id, actor="key:1")
    with pytest.raises(CannotReplay, match=r": a call to the provider is under way$"):
        await there.replay(order_id, actor="cli:eva")
    with pytest.raises(CannotResolve, match="deadline"):
        await resolve_not_issued(house.db, house.vault, 1, reason="hasty", actor="cli:eva")
    supplier.release()


async def test_a_replay_whose_process_died_leaves_an_unknown_and_the_next_one_asks_again(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    dying, living = make_activations(), make_activations()
    order_id = await an_unknown(house, dying, supplier)
    supplier.script("hold_after", reference=f"order-{order_id}")
    await dying.replay_due()
    await supplier.wait_until_held(1)
    await dying.drain(0)
    await time_passes(house, 3600)
    assert await sweep(house.db) == 1
    filed = await on_file(house, order_id)
    assert (filed.profile.status, outcomes(filed)) == ("unknown", ["unknown", "unknown"])
    await time_passes(house, 60)
    await replayed(living)
    assert (await on_file(house, order_id)).profile.status == "provisioned"
    assert len(supplier.issued_for(f"order-{order_id}")) == 1


async def test_an_order_whose_replay_is_not_ended_is_not_settled_by_a_person(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    """Its deadline has passed, and no sweep has come by: it would be pending with a call under way."""
    order_id = await an_unknown(house, activations, supplier)
    supplier.script("hold")
    assert await activations.replay_due() == 1
    await supplier.wait_until_held(1)
    await time_passes(house, TIMEOUT_S + 10)
    esim_id = (await on_file(house, order_id)).profile.id
    with pytest.raises(CannotResolve, match="under way"):
        await resolve_not_issued(house.db, house.vault, esim_id, reason="hasty", actor="cli:eva")
    assert await sweep(house.db) == 1
    await resolve_not_issued(house.db, house.vault, esim_id, reason="patient", actor="cli:eva")
    supplier.release()


async def test_what_a_person_called_not_issued_is_a_new_question_when_it_is_lost_again(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier, "close_before")
    supplier.script(*["status_422"], reference=f"order-{order_id}")
    await replayed(activations)
    await time_passes(house, 3600)
    await resolve_not_issued(house.db, house.vault, 1, reason="they have no record of it", actor="cli:eva")
    supplier.script("close_after", reference=f"order-{order_id}")
    with pytest.raises(SupplierOutcomeUnknown):
        await activations.activate(order_id, actor="key:1")
    assert await replayed(activations) == 1
    assert (await on_file(house, order_id)).profile.status == "provisioned"


async def test_what_is_not_unknown_is_not_sent_again(
    house: House, activations: Activations, provider: ConnectedYou, supplier: StandIn
) -> None:
    order_id = await an_order(house.db)
    with pytest.raises(CannotReplay, match=r": its eSIM is pending: only an unknown one is sent again$"):
        await activations.replay(order_id, actor="cli:eva")
    with pytest.raises(NotFound):
        await activations.replay(order_id + 1, actor="cli:eva")
    async with house.db.read() as connection:
        assert await due_for_replay(connection, provider) == []
    assert supplier.request_count == 0


async def test_a_process_that_ends_sends_nothing_again(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    await activations.drain(5)
    assert await activations.replay_due() == 0
    with pytest.raises(ShuttingDown):
        await activations.replay(order_id, actor="cli:eva")
    assert supplier.request_count == 1


async def test_a_replay_is_on_file_to_the_last_column(
    house: House, activations: Activations, supplier: StandIn, provider: ConnectedYou
) -> None:
    order_id = await an_unknown(house, activations, supplier)
    await activations.replay(order_id, actor="cli:eva")
    filed = await on_file(house, order_id)
    question, replay = filed.attempts
    for column in ("provider", "is_live", "reference", "base_url", "partner_id"):
        assert getattr(replay, column) == getattr(question, column)
    assert (replay.base_url, replay.partner_id) == (supplier.url, "partner-of-tests")
    assert (replay.is_replay, replay.requested_by, replay.outcome) == (True, "cli:eva", "delivered")
    asked, again = [
        house.vault.keyring.open(each.request, attempt_place("request", each.id)) for each in (question, replay)
    ]
    assert asked == again
    assert (replay.deadline_at - replay.opened_at).total_seconds() == pytest.approx(TIMEOUT_S + 5, abs=1)
    async with house.db.read() as connection:
        query = text("SELECT actor, details FROM audit_log WHERE tag = 'esims.replayed'")
        [row] = await connection.execute(query)
    assert tuple(row) == ("cli:eva", {"attempt_id": replay.id})


async def test_an_open_circuit_pauses_replays_until_one_of_them_is_the_probe(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    settings = house.settings.model_copy(update={"provider_circuit_failures": 1})
    activations = make_activations(of=replace(house, settings=settings))
    order_id = await an_unknown(house, activations, supplier, "status_500_after")
    with pytest.raises(ProviderPaused):
        await activations.replay(order_id, actor="cli:eva")
    assert supplier.request_count == 1
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE provider_states SET probe_at = now() - interval '1 second'"))

    supplier.script("hold")
    replaying = asyncio.create_task(activations.replay(order_id, actor="cli:eva"))
    await supplier.wait_until_held(1)
    async with house.db.read() as connection:
        rest_s = await connection.scalar(text("SELECT extract(epoch FROM probe_at - updated_at) FROM provider_states"))
    assert float(rest_s) == pytest.approx(TIMEOUT_S + 5, abs=1)
    supplier.release()
    assert (await replaying).esim.status == "provisioned"
    async with house.db.read() as connection:
        assert await connection.scalar(text("SELECT circuit_opened_at FROM provider_states")) is None


@pytest.mark.parametrize("status", ["unknown", "provisioned"])
async def test_who_waits_for_a_replay_that_is_not_made_after_all_hears_how_the_order_stands(
    house: House, activations: Activations, supplier: StandIn, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """Another process was quicker, between the look for what is due and the lock."""
    order_id = await an_unknown(house, activations, supplier)

    async def settled_meanwhile(*_: object, **__: object) -> NothingToReplay:
        if status == "provisioned":
            code = ActivationCode.read("LPA:1$smdp.example.com$X")
            await time_passes(house, 3600)
            await resolve_issued(house.db, house.vault, 1, code=code, iccid=None, reason="?", actor="cli:eva")
        return NothingToReplay()

    monkeypatch.setattr("app.services.esims.activate.declare_replay", settled_meanwhile)
    assert await activations.replay_due() == 1
    if status == "provisioned":
        activation = await activations.activate(order_id, actor="key:1")
        assert (activation.esim.order_id, activation.esim.status) == (order_id, "provisioned")
        assert (activation.is_first, activation.is_done) == (False, True)
    else:
        with pytest.raises(OutcomeStillUnknown):
            await activations.activate(order_id, actor="key:1")


async def test_what_is_due_no_more_under_the_lock_is_not_sent_again(
    house: House, activations: Activations, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has sent it again since the look for what is due."""
    order_id = await an_unknown(house, activations, supplier)
    supplier.script("close_before")
    assert await replayed(activations) == 1

    async def looked_before(*_: object) -> list[int]:
        return [order_id]

    monkeypatch.setattr("app.services.esims.activate.due_for_replay", looked_before)
    assert await replayed(activations) == 1
    assert supplier.request_count == 2
    assert len((await on_file(house, order_id)).attempts) == 2


async def test_a_process_without_a_circuit_sends_again_what_another_pauses(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    pausing, never = [
        make_activations(
            of=replace(house, settings=house.settings.model_copy(update={"provider_circuit_failures": failures}))
        )
        for failures in (1, 0)
    ]
    order_id = await an_unknown(house, pausing, supplier, "status_500_after")
    assert (await never.replay(order_id, actor="cli:eva")).esim.status == "provisioned"
