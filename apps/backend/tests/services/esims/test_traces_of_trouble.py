"""What trouble leaves behind: lines of the log for who runs it, words on file for who settles it, numbers for alarms."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from app.db import Database
from app.errors import DatabaseUnavailable
from app.house import House
from app.services.esim_providers import (
    Answer,
    SupplierNotConfigured,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
)
from app.services.esim_providers.connected_you import client
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims import answer, watch
from app.services.esims.activate import Activations
from app.services.esims.answer import record_answer
from app.services.esims.intent import attempt_place
from app.services.esims.resolve import resolve_not_issued
from app.services.esims.watch import Closed, Watch
from tests.builders import an_order
from tests.processes.programs import until
from tests.services.esims.conftest import MakeActivations, on_file
from tests.services.esims.test_settling import an_intent, an_unknown, the_answer
from tests.services.esims.test_traces import WORDS, lines, the_trail
from tests.stand_in import StandIn

KEEP = "app.services.esims.keep"


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


async def test_an_esim_that_nobody_needs_any_more_is_an_alarm(
    house: House, provider: ConnectedYou, activations: Activations, supplier: StandIn
) -> None:
    intent, esim_id = await an_unknown(house, provider)
    late = await the_answer(provider, intent)
    await resolve_not_issued(house.db, house.vault, esim_id, reason="their portal shows none", actor="cli:eva")
    await activations.activate(intent.order_id, actor="key:2")
    with lines() as told:
        await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", late)
    [attempt, _] = (await on_file(house, intent.order_id)).attempts
    assert (attempt.outcome, attempt.problem, attempt.response_status) == ("surplus", None, 200)
    assert attempt.error == "issued, but the order has another eSIM by now"
    assert (await the_trail(house, esim_id))[-1] == (
        "key:1",
        "esims.surplus",
        {"attempt_id": intent.attempt_id, "late": True},
    )
    assert told == [
        {
            "event": "esims.surplus",
            "log_level": "error",
            "order_id": intent.order_id,
            "attempt_id": intent.attempt_id,
        }
    ]


async def test_an_attempt_that_the_database_has_forgotten_is_an_alarm_and_filed_under_a_new_number(
    house: House, provider: ConnectedYou
) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    late = await the_answer(provider, intent)
    async with house.db.begin() as connection:
        await connection.execute(text("DELETE FROM provisioning_attempts"))
        await connection.execute(text("UPDATE esim_profiles SET status = 'pending'"))
    with lines() as told:
        await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", late)
    filed = await on_file(house, intent.order_id)
    [attempt] = filed.attempts
    assert attempt.id != intent.attempt_id
    assert (attempt.provider, attempt.is_live, attempt.is_replay, attempt.reference) == (
        *("CONNECTED_YOU", True, False),
        f"order-{intent.order_id}",
    )
    assert (attempt.base_url, attempt.partner_id, attempt.requested_by) == (
        *(provider.base_url, "partner-of-tests"),
        "key:1",
    )
    assert (attempt.outcome, attempt.problem) == ("delivered", None)
    request = house.vault.keyring.open(attempt.request, attempt_place("request", attempt.id))
    assert request == intent.order.body
    assert (await the_trail(house, intent.profile_id))[-1] == (
        "key:1",
        "esims.provisioned",
        {"attempt_id": attempt.id, "late": True},
    )
    assert told == [
        {
            "event": "esims.attempt_forgotten",
            "log_level": "critical",
            "order_id": intent.order_id,
            "attempt_id": intent.attempt_id,
        }
    ]


async def test_a_failure_whose_attempt_the_database_has_forgotten_is_a_closed_question(
    house: House, provider: ConnectedYou
) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    async with house.db.begin() as connection:
        await connection.execute(text("DELETE FROM provisioning_attempts"))
        await connection.execute(text("UPDATE esim_profiles SET status = 'pending'"))
    lost = SupplierOutcomeUnknown("lost", answer=Answer(500, WORDS))
    esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", lost)
    [attempt] = (await on_file(house, intent.order_id)).attempts
    assert (esim.status, attempt.outcome, attempt.problem) == ("unknown", "unknown", "activation-outcome-unknown")
    assert (attempt.response_status, attempt.error) == (500, "lost")
    assert attempt.closed_at is not None
    assert (await the_trail(house, intent.profile_id))[-1] == (
        *("key:1", "esims.outcome_unknown"),
        {"attempt_id": attempt.id, "late": True},
    )


async def test_while_the_database_is_away_every_try_is_told_with_longer_pauses(
    house: House, activations: Activations, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    supplier.script("hold")
    order_id = await an_order(house.db)
    flying = asyncio.create_task(activations.activate(order_id, actor="key:1"))
    await supplier.wait_until_held(1)
    pauses: list[float] = []
    tries = iter(range(7))

    async def away(*told: Any) -> Any:
        for number in tries:
            raise DatabaseUnavailable(f"away for the {number}. time")
        return await record_answer(*told)

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(f"{KEEP}.record_answer", away)
    monkeypatch.setattr(f"{KEEP}.asyncio", SimpleNamespace(sleep=pause))
    with lines() as told:
        supplier.release()
        assert (await flying).is_first
    assert pauses == [0.1, 0.2, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert told[:7] == [
        {
            "event": "esims.answer_waits_for_database",
            "log_level": "warning",
            "order_id": order_id,
            "reason": f"away for the {number}. time",
        }
        for number in range(7)
    ]


async def test_an_answer_that_cannot_be_stored_is_told_and_its_words_are_kept_for_a_person(
    house: House, activations: Activations, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> dict[str, Any]:
        raise ZeroDivisionError

    monkeypatch.setattr(answer, "_delivered_values", broken)
    order_id = await an_order(house.db)
    with lines() as told, pytest.raises(SupplierOutcomeUnknown, match="could not be stored as it came"):
        await activations.activate(order_id, actor="key:1")
    filed = await on_file(house, order_id)
    [attempt] = filed.attempts
    assert (attempt.outcome, attempt.error) == ("unknown", "the answer could not be stored as it came")
    body = house.vault.keyring.open(attempt.response_body, attempt_place("response_body", attempt.id))
    assert supplier.issued[0].activation_code.encode() in body
    line = {"event": "esims.answer_not_storable", "log_level": "error", "order_id": order_id, "attempt_id": attempt.id}
    assert [{name: each[name] for name in line} for each in told[:2]] == [line, line]
    assert [each["event"] for each in told[2:]] == ["esims.activation_failed"]


async def test_an_answer_that_cannot_be_stored_at_all_is_kept_while_the_process_lives(
    house: House, activations: Activations, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    supplier.script("hold")
    order_id = await an_order(house.db)
    flying = asyncio.create_task(activations.activate(order_id, actor="key:1"))
    await supplier.wait_until_held(1)
    pauses: list[float] = []
    errors = iter([ZeroDivisionError()] * 5)

    async def broken(*told: Any) -> Any:
        for error in errors:
            raise error
        return await record_answer(*told)

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(f"{KEEP}.record_answer", broken)
    monkeypatch.setattr(f"{KEEP}.asyncio", SimpleNamespace(sleep=pause))
    supplier.release()
    with pytest.raises(SupplierOutcomeUnknown):
        await flying
    assert pauses == [2.0] * 3
    assert (await on_file(house, order_id)).attempts[0].response_body is not None


async def test_a_crash_of_the_adapter_is_told_and_named_on_the_attempt(
    house: House, activations: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(client, "read_delivered", crash)
    order_id = await an_order(house.db)
    with lines() as told, pytest.raises(SupplierOutcomeUnknown):
        await activations.activate(order_id, actor="key:1")
    [attempt] = (await on_file(house, order_id)).attempts
    assert (attempt.outcome, attempt.error) == ("unknown", "the provider's adapter failed: ZeroDivisionError")
    line = {"event": "esims.provider_adapter_failed", "log_level": "error", "order_id": order_id}
    assert line | {"attempt_id": attempt.id} == {name: told[0][name] for name in (*line, "attempt_id")}


async def test_not_configured_is_no_word_for_what_may_have_been_sent(
    house: House, activations: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def confused(*_: object, **__: object) -> None:
        raise SupplierNotConfigured("no key after all", answer=Answer(200, WORDS))

    monkeypatch.setattr(ConnectedYou, "provision", confused)
    order_id = await an_order(house.db)
    with pytest.raises(SupplierOutcomeUnknown, match="no key after all"):
        await activations.activate(order_id, actor="key:1")
    filed = await on_file(house, order_id)
    [attempt] = filed.attempts
    assert (filed.profile.status, attempt.outcome, attempt.response_status) == ("unknown", "unknown", 200)


async def test_a_set_up_that_is_not_complete_is_told_before_anything_is_on_file(
    house: House, activations: Activations
) -> None:
    order_id = await an_order(house.db, code=None)
    with lines() as told, pytest.raises(SupplierNotConfigured) as caught:
        await activations.activate(order_id, actor="key:1")
    assert [(line["event"], line["order_id"], line["problem"], line["error"]) for line in told] == [
        ("esims.activation_failed", order_id, "provider-not-configured", str(caught.value))
    ]


async def test_an_intent_whose_commit_was_not_acknowledged_says_why_it_was_not_sent(
    house: House, activations: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, is_first = Database.begin, iter([True])

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
    assert await activations.drain(5)
    filed = await on_file(house, order_id)
    [attempt] = filed.attempts
    assert attempt.error == "the database went away before the order could be sent"
    assert (await the_trail(house, filed.profile.id))[-1] == (
        *("key:1", "esims.activation_not_sent"),
        {"attempt_id": attempt.id},
    )


async def test_who_waits_while_the_database_is_away_is_told_that_the_work_goes_on(
    house: House, make_activations: MakeActivations, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    supplier.script("hold")
    hasty, order_id = make_activations(wait_s=0.2), await an_order(house.db)
    read, is_first = Database.read, iter([True])

    def away_after_the_first_look(self: Database) -> object:
        if next(is_first, False):
            return read(self)
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "read", away_after_the_first_look)
        with pytest.raises(DatabaseUnavailable) as caught:
            await hasty.activate(order_id, actor="key:1")
    await supplier.wait_until_held(1)
    assert str(caught.value) == "away"
    assert "may be under way" in caught.value.public_message
    assert caught.value.retry_after_s is not None
    supplier.release()


async def test_who_waits_in_a_process_that_gives_up_is_told_that_the_outcome_is_unknown(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.script("hold")
    calling = asyncio.create_task(activations.activate(await an_order(house.db), actor="key:1"))
    await supplier.wait_until_held(1)
    assert not await activations.drain(0)
    with pytest.raises(SupplierOutcomeUnknown, match=r"^this server had to end before the activation did: the"):
        await calling


async def test_a_wait_that_the_provider_asks_for_is_told_in_other_processes_too(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    supplier.script("hold")
    here, there = make_activations(), make_activations()
    order_id = await an_order(house.db)
    first = asyncio.create_task(here.activate(order_id, actor="key:1"))
    await supplier.wait_until_held(1)
    second = asyncio.create_task(there.activate(order_id, actor="key:2"))
    await until(lambda: bool(there._watch._waiting))  # noqa: SLF001 - it has joined
    supplier.release(then="status_429_seconds-60")
    failures = await asyncio.gather(first, second, return_exceptions=True)
    assert [(type(failure), getattr(failure, "retry_after_s", None)) for failure in failures] == [
        (SupplierRateLimited, 60)
    ] * 2


async def test_a_watch_outlives_every_failure_of_its_look_and_tells_how_attempts_ended(
    house: House, provider: ConnectedYou, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited, delivered = [await an_intent(house, provider, await an_order(house.db)) for _ in range(2)]
    read, errors = Database.read, [DatabaseUnavailable("away"), ZeroDivisionError()]

    def failing(self: Database) -> object:
        if errors:
            raise errors.pop(0)
        return read(self)

    monkeypatch.setattr(watch, "POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(Database, "read", failing)
    waiting = Watch(house.db)
    with lines() as told:
        ends = [asyncio.create_task(waiting.until_closed(each.attempt_id)) for each in (limited, delivered, delivered)]
        await until(lambda: not errors)
        refusal = SupplierRateLimited("later", answer=Answer(429, b""), retry_after_s=7)
        await record_answer(house.db, house.vault, limited, "CONNECTED_YOU", refusal)
        await record_answer(house.db, house.vault, delivered, "CONNECTED_YOU", await the_answer(provider, delivered))
        assert await asyncio.gather(*ends) == [
            Closed("held_off", "provider-rate-limited", 7),
            *[Closed("delivered", None, None)] * 2,
        ]
    assert [line["event"] for line in told] == ["esims.watch_failed"]
    assert told[0]["log_level"] == "error"
    # All are told: it looks no more until somebody waits again.
    await until(lambda: waiting._poller is not None and waiting._poller.done())  # noqa: SLF001
    assert await waiting.until_closed(delivered.attempt_id) == Closed("delivered", None, None)
    await waiting.close()


async def test_alarms_count_what_they_are_about(
    house: House, activations: Activations, provider: ConnectedYou, supplier: StandIn
) -> None:
    names = {"provider": "CONNECTED_YOU"}

    def numbers() -> dict[str, float]:
        return {
            "account": counted("tribi_provider_account_refusals_total", **names),
            "calls": counted("tribi_provider_seconds_count", **names),
            "under way": counted("tribi_provider_calls_in_flight"),
            **{
                outcome: counted("tribi_activations_total", **names, outcome=outcome)
                for outcome in ("delivered", "refused", "unknown")
            },
        }

    before = numbers()
    supplier.script("hold")
    calling = asyncio.create_task(activations.activate(await an_order(house.db), actor="key:1"))
    await supplier.wait_until_held(1)
    assert numbers()["under way"] == before["under way"] + 1
    supplier.release()
    await calling
    supplier.script("status_402", "status_404", "status_500_after")
    for _ in range(3):
        with pytest.raises(Exception, match="HTTP"):
            await activations.activate(await an_order(house.db), actor="key:1")
    grown = {name: number - before[name] for name, number in numbers().items()}
    assert grown == {"account": 1, "calls": 4, "under way": 0, "delivered": 1, "refused": 2, "unknown": 1}
