"""Attempts whose answer is late, lost or never comes: the sweep, late answers, and a person's word."""

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text

from app.db import Database
from app.errors import DatabaseUnavailable, NotFound
from app.house import House
from app.services.esim_providers import (
    Answer,
    Delivered,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
    SupplierUnreachable,
)
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims import answer
from app.services.esims.activate import Activations
from app.services.esims.answer import record_answer
from app.services.esims.errors import OutcomeStillUnknown, ProviderOnHold
from app.services.esims.intent import Intent, attempt_place, declare_intent
from app.services.esims.recover import sweep
from app.services.esims.resolve import CannotResolve, resolve_issued, resolve_not_issued
from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid
from tests.builders import an_order
from tests.services.esims.conftest import TIMEOUT_S, on_file
from tests.stand_in import StandIn

CODE = ActivationCode.read("LPA:1$smdp.example.com$TYPED-IN")


async def an_intent(house: House, provider: ConnectedYou, order_id: int) -> Intent:
    """An attempt on file whose process goes no further."""
    async with house.db.begin() as connection:
        intent = await declare_intent(connection, house.vault, provider, order_id, actor="key:1", timeout_s=TIMEOUT_S)
    assert isinstance(intent, Intent)
    return intent


async def deadline_passes(house: House) -> None:
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE provisioning_attempts SET deadline_at = now() - interval '1 second'"))


async def an_unknown(house: House, provider: ConnectedYou) -> tuple[Intent, int]:
    """An order whose process died during the call; the sweep has found it. Its intent and its eSIM's id."""
    order_id = await an_order(house.db)
    intent = await an_intent(house, provider, order_id)
    await deadline_passes(house)
    assert await sweep(house.db) == 1
    return intent, intent.profile_id


async def the_answer(provider: ConnectedYou, intent: Intent) -> Delivered:
    return await provider.provision(intent.order, may_send=lambda: True)


async def test_an_overdue_attempt_becomes_unknown_and_is_not_sent_again(
    house: House, provider: ConnectedYou, activations: Activations, supplier: StandIn
) -> None:
    intent, _ = await an_unknown(house, provider)
    filed = await on_file(house, intent.order_id)
    assert (filed.profile.status, filed.attempts[0].outcome, filed.attempts[0].problem) == (
        "unknown",
        "unknown",
        "activation-outcome-unknown",
    )
    assert filed.audit == ["esims.activation_started", "esims.outcome_unknown"]
    with pytest.raises(OutcomeStillUnknown):
        await activations.activate(intent.order_id, actor="key:1")
    assert supplier.request_count == 0


async def test_an_attempt_within_its_deadline_is_left_alone(house: House, provider: ConnectedYou) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    assert await sweep(house.db) == 0
    assert (await on_file(house, intent.order_id)).profile.status == "provisioning"


async def test_sweeps_at_once_settle_each_attempt_once(house: House, provider: ConnectedYou) -> None:
    intents = [await an_intent(house, provider, await an_order(house.db)) for _ in range(10)]
    await deadline_passes(house)
    assert sum(await asyncio.gather(*(sweep(house.db) for _ in range(4)))) == 10
    for intent in intents:
        assert (await on_file(house, intent.order_id)).audit == ["esims.activation_started", "esims.outcome_unknown"]


async def test_a_late_answer_still_settles_a_call_thought_dead(
    house: House, provider: ConnectedYou, supplier: StandIn
) -> None:
    intent, _ = await an_unknown(house, provider)
    esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", await the_answer(provider, intent))
    assert esim.status == "provisioned"
    filed = await on_file(house, intent.order_id)
    assert filed.attempts[0].outcome == "delivered"
    assert filed.audit == ["esims.activation_started", "esims.outcome_unknown", "esims.provisioned"]
    assert filed.jobs == 1


async def test_a_late_failure_does_not_end_the_question(house: House, provider: ConnectedYou) -> None:
    intent, _ = await an_unknown(house, provider)
    await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", SupplierUnreachable("late"))
    assert (await on_file(house, intent.order_id)).profile.status == "unknown"


async def test_storing_an_answer_twice_changes_nothing(house: House, provider: ConnectedYou) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    result = await the_answer(provider, intent)
    first, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", result)
    again, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", result)
    assert again == first
    filed = await on_file(house, intent.order_id)
    assert (filed.audit, filed.jobs) == (["esims.activation_started", "esims.provisioned"], 1)


async def test_a_late_answer_after_not_issued_is_taken_while_nothing_else_was_bought(
    house: House, provider: ConnectedYou
) -> None:
    intent, esim_id = await an_unknown(house, provider)
    await resolve_not_issued(house.db, house.vault, esim_id, reason="their portal shows none", actor="cli:eva")
    esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", await the_answer(provider, intent))
    assert esim.status == "provisioned"


async def test_a_late_answer_after_another_was_bought_is_surplus_and_kept(
    house: House, provider: ConnectedYou, activations: Activations, supplier: StandIn
) -> None:
    intent, esim_id = await an_unknown(house, provider)
    late = await the_answer(provider, intent)
    await resolve_not_issued(house.db, house.vault, esim_id, reason="their portal shows none", actor="cli:eva")
    bought = (await activations.activate(intent.order_id, actor="key:1")).esim

    esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", late)
    assert esim == bought
    filed = await on_file(house, intent.order_id)
    assert [attempt.outcome for attempt in filed.attempts] == ["surplus", "delivered"]
    assert filed.attempts[0].response_body is not None
    assert "esims.surplus" in filed.audit


async def test_a_late_answer_settles_the_order_and_what_the_call_under_way_brings_is_surplus(
    house: House, provider: ConnectedYou, activations: Activations, supplier: StandIn
) -> None:
    intent, esim_id = await an_unknown(house, provider)
    late = await the_answer(provider, intent)
    await resolve_not_issued(house.db, house.vault, esim_id, reason="their portal shows none", actor="cli:eva")
    supplier.script("hold")
    flying = asyncio.create_task(activations.activate(intent.order_id, actor="key:1"))
    await supplier.wait_until_held(1)

    await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", late)
    supplier.release()
    second = await flying
    filed = await on_file(house, intent.order_id)
    assert not second.is_first
    assert second.esim.activation_code == late.activation_code
    assert [attempt.outcome for attempt in filed.attempts] == ["delivered", "surplus"]


async def test_an_answer_that_arrives_while_the_database_is_away_is_stored_when_it_is_back(
    house: House, activations: Activations, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    supplier.script("hold")
    order_id = await an_order(house.db)
    flying = asyncio.create_task(activations.activate(order_id, actor="key:1"))
    await supplier.wait_until_held(1)
    tries = iter([DatabaseUnavailable("away"), DatabaseUnavailable("away")])
    begin = Database.begin

    def failing_begin(self: Database, *, within_s: float | None = None) -> object:
        for error in tries:
            raise error
        return begin(self, within_s=within_s)

    monkeypatch.setattr(Database, "begin", failing_begin)
    supplier.release()
    assert (await flying).esim.status == "provisioned"


async def test_a_commit_of_the_intent_that_was_not_acknowledged_is_closed_as_not_sent(
    house: House, activations: Activations, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import asynccontextmanager

    begin = Database.begin
    is_first = iter([True])

    @asynccontextmanager
    async def losing_begin(self: Database, **within: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202 - as Database.begin
        async with begin(self, **within) as connection:
            yield connection
        if next(is_first, False):
            raise DatabaseUnavailable("the acknowledgement was lost")

    order_id = await an_order(house.db)
    monkeypatch.setattr(Database, "begin", losing_begin)
    with pytest.raises(DatabaseUnavailable):
        await activations.activate(order_id, actor="key:1")
    await activations.drain(5)
    filed = await on_file(house, order_id)
    assert (filed.profile.status, [attempt.outcome for attempt in filed.attempts]) == ("pending", ["not_sent"])
    assert supplier.request_count == 0


async def test_an_error_of_our_own_that_passes_costs_no_answer(
    house: House, activations: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = answer._delivered_values  # noqa: SLF001 - broken once
    errors = iter([ZeroDivisionError()])

    def broken_once(*told: Any) -> dict[str, Any]:
        for error in errors:
            raise error
        return sound(*told)

    monkeypatch.setattr(answer, "_delivered_values", broken_once)
    order_id = await an_order(house.db)
    assert (await activations.activate(order_id, actor="key:1")).is_first
    assert [attempt.outcome for attempt in (await on_file(house, order_id)).attempts] == ["delivered"]


async def test_an_answer_that_cannot_be_stored_as_it_came_keeps_its_words_for_a_person(
    house: House, activations: Activations, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> dict[str, bytes | None]:
        raise ZeroDivisionError

    monkeypatch.setattr(answer, "_delivered_values", broken)
    order_id = await an_order(house.db)
    with pytest.raises(SupplierOutcomeUnknown):
        await activations.activate(order_id, actor="key:1")
    filed = await on_file(house, order_id)
    assert filed.profile.status == "unknown"
    assert filed.attempts[0].response_body is not None


async def test_a_person_settles_an_unknown_as_issued(house: House, provider: ConnectedYou, supplier: StandIn) -> None:
    intent, esim_id = await an_unknown(house, provider)
    iccid = Iccid.make("899990000000000001")
    esim = await resolve_issued(
        house.db, house.vault, esim_id, code=CODE, iccid=iccid, reason="by telephone", actor="cli:eva"
    )
    assert (esim.status, esim.activation_code, esim.iccid) == ("provisioned", CODE, iccid.text)
    filed = await on_file(house, intent.order_id)
    assert filed.audit == ["esims.activation_started", "esims.outcome_unknown", "esims.resolved_issued"]
    assert filed.jobs == 1


async def test_not_issued_lets_the_order_be_bought_again(
    house: House, provider: ConnectedYou, activations: Activations, supplier: StandIn
) -> None:
    intent, esim_id = await an_unknown(house, provider)
    esim = await resolve_not_issued(house.db, house.vault, esim_id, reason="by telephone", actor="cli:eva")
    assert esim.status == "pending"
    assert (await activations.activate(intent.order_id, actor="key:1")).is_first
    assert len(supplier.issued_for(f"order-{intent.order_id}")) == 1


async def test_only_an_unknown_esim_can_be_settled(house: House, activations: Activations) -> None:
    order_id = await an_order(house.db)
    esim = (await activations.activate(order_id, actor="key:1")).esim
    with pytest.raises(CannotResolve, match="provisioned"):
        await resolve_not_issued(house.db, house.vault, esim.id, reason="?", actor="cli:eva")
    with pytest.raises(NotFound, match="there is no eSIM 999999"):
        await resolve_not_issued(house.db, house.vault, 999_999, reason="?", actor="cli:eva")


async def test_an_unknown_is_not_settled_before_its_attempts_deadline(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.script("close_after")
    order_id = await an_order(house.db)
    with pytest.raises(SupplierOutcomeUnknown):
        await activations.activate(order_id, actor="key:1")
    esim_id = (await on_file(house, order_id)).profile.id
    with pytest.raises(CannotResolve, match="deadline"):
        await resolve_not_issued(house.db, house.vault, esim_id, reason="hasty", actor="cli:eva")
    await deadline_passes(house)
    await resolve_not_issued(house.db, house.vault, esim_id, reason="patient", actor="cli:eva")


async def test_a_code_that_another_esim_holds_cannot_be_typed_in(
    house: House, provider: ConnectedYou, supplier: StandIn
) -> None:
    _, first = await an_unknown(house, provider)
    await resolve_issued(house.db, house.vault, first, code=CODE, iccid=None, reason="one", actor="cli:eva")
    _, second = await an_unknown(house, provider)
    with pytest.raises(CannotResolve, match="activation code"):
        await resolve_issued(house.db, house.vault, second, code=CODE, iccid=None, reason="two", actor="cli:eva")


async def test_a_late_answer_after_a_refused_second_try_is_the_orders_esim(
    house: House, provider: ConnectedYou, activations: Activations, supplier: StandIn
) -> None:
    intent, esim_id = await an_unknown(house, provider)
    late = await the_answer(provider, intent)
    await resolve_not_issued(house.db, house.vault, esim_id, reason="their portal shows none", actor="cli:eva")
    supplier.script("status_422")
    with pytest.raises(SupplierRefused):
        await activations.activate(intent.order_id, actor="key:1")
    esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", late)
    assert esim.status == "provisioned"
    assert not (await activations.activate(intent.order_id, actor="key:1")).is_first
    assert len(supplier.issued) == 1


async def test_words_that_come_too_late_stay_on_their_attempt_and_on_the_trail(
    house: House, provider: ConnectedYou
) -> None:
    intent, _ = await an_unknown(house, provider)
    late = SupplierOutcomeUnknown("late", answer=Answer(503, b"we are sorry"))
    for _ in range(2):
        await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", late)
    filed = await on_file(house, intent.order_id)
    [attempt] = filed.attempts
    assert (filed.profile.status, attempt.outcome, attempt.response_status) == ("unknown", "unknown", 503)
    assert (
        house.vault.keyring.open(attempt.response_body, attempt_place("response_body", attempt.id)) == b"we are sorry"
    )
    assert filed.profile.provider_payload is not None
    assert filed.audit.count("esims.outcome_unknown") == 2  # the sweep's, and the late one's, once


async def test_an_answer_whose_attempt_the_database_has_forgotten_is_filed_again(
    house: House, provider: ConnectedYou, activations: Activations, supplier: StandIn
) -> None:
    supplier.script("hold")
    order_id = await an_order(house.db)
    flying = asyncio.create_task(activations.activate(order_id, actor="key:1"))
    await supplier.wait_until_held(1)
    async with house.db.begin() as connection:  # what a failover to a standby that lags behind does
        await connection.execute(text("DELETE FROM provisioning_attempts"))
        await connection.execute(text("UPDATE esim_profiles SET status = 'pending'"))
    supplier.release()
    assert (await flying).esim.status == "provisioned"
    assert not (await activations.activate(order_id, actor="key:1")).is_first
    assert len(supplier.issued) == 1


async def test_a_failure_whose_attempt_the_database_has_forgotten_leaves_an_unknown(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.script("hold")
    order_id = await an_order(house.db)
    flying = asyncio.create_task(activations.activate(order_id, actor="key:1"))
    await supplier.wait_until_held(1)
    async with house.db.begin() as connection:
        await connection.execute(text("DELETE FROM provisioning_attempts"))
        await connection.execute(text("UPDATE esim_profiles SET status = 'pending'"))
    supplier.release(then="close_after")
    with pytest.raises(SupplierOutcomeUnknown):
        await flying
    assert (await on_file(house, order_id)).profile.status == "unknown"


async def test_a_database_that_is_read_only_for_a_while_loses_no_answer(
    house: House, activations: Activations, supplier: StandIn, direct_url: str
) -> None:
    name = conninfo_to_dict(direct_url)["dbname"]
    end_sessions = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    )
    supplier.script("hold")
    order_id = await an_order(house.db)
    flying = asyncio.create_task(activations.activate(order_id, actor="key:1"))
    await supplier.wait_until_held(1)
    with psycopg.connect(direct_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        connection.execute(end_sessions, [name])
        supplier.release()
        for _ in range(100):  # the answer is there, and refused at least once
            await asyncio.sleep(0.02)
            assert not flying.done()
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        connection.execute(end_sessions, [name])
    assert (await flying).esim.status == "provisioned"


async def test_a_second_429_does_not_shorten_the_hold(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    first, second, third = [await an_order(house.db) for _ in range(3)]
    supplier.script("hold", "hold")
    calls = [asyncio.create_task(activations.activate(order_id, actor="key:1")) for order_id in (first, second)]
    await supplier.wait_until_held(2)
    supplier.release(1, then="status_429_seconds-120")
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    supplier.release(1, then="status_429_seconds-1")
    await asyncio.wait(calls)
    assert [type(call.exception()) for call in calls] == [SupplierRateLimited] * 2
    with pytest.raises(ProviderOnHold) as held:
        await activations.activate(third, actor="key:1")
    assert held.value.retry_after_s is not None
    assert held.value.retry_after_s > 60


async def test_an_iccid_that_another_esim_holds_cannot_be_typed_in(house: House, provider: ConnectedYou) -> None:
    iccid = Iccid.make("89445001021983048")
    _, first = await an_unknown(house, provider)
    await resolve_issued(house.db, house.vault, first, code=CODE, iccid=iccid, reason="one", actor="cli:eva")
    _, second = await an_unknown(house, provider)
    other = ActivationCode.read("LPA:1$smdp.example.com$ANOTHER")
    with pytest.raises(CannotResolve, match="ICCID") as refused:
        await resolve_issued(house.db, house.vault, second, code=other, iccid=iccid, reason="two", actor="cli:eva")
    assert iccid.text not in str(refused.value)
    assert (await on_file(house, 2)).profile.status == "unknown"


@pytest.mark.parametrize("status", ["pending", "refused", "provisioned", "cancelled"])
async def test_only_an_unknown_outcome_is_settled_by_a_person(
    house: House, activations: Activations, supplier: StandIn, status: str
) -> None:
    order_id = await an_order(house.db)
    if status == "provisioned":
        await activations.activate(order_id, actor="key:1")
    esim_id = (await on_file(house, order_id)).profile.id
    if status != "provisioned":
        async with house.db.begin() as connection:
            await connection.execute(text("UPDATE esim_profiles SET status = :status"), {"status": status})
    before = await on_file(house, order_id)
    with pytest.raises(CannotResolve, match=f"is {status}: only"):
        await resolve_issued(house.db, house.vault, esim_id, code=CODE, iccid=None, reason="x", actor="cli:eva")
    with pytest.raises(CannotResolve, match=f"is {status}: only"):
        await resolve_not_issued(house.db, house.vault, esim_id, reason="x", actor="cli:eva")
    assert await on_file(house, order_id) == before
