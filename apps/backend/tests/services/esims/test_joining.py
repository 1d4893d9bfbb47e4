"""Who calls for an order that is under way, in this process or in another, is told how that call ended."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from app.house import House
from app.services.esim_providers import (
    Accepted,
    Answer,
    EsimProvisioningError,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
    SupplierUnreachable,
)
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims.activate import Activation, Activations
from app.services.esims.answer import record_answer
from app.services.esims.recover import sweep
from app.services.esims.resolve import resolve_issued, resolve_not_issued
from app.values.activation_code import ActivationCode
from tests.builders import an_order
from tests.processes.programs import until
from tests.services.esims.conftest import MakeActivations, on_file
from tests.services.esims.test_settling import an_intent, an_unknown, deadline_passes, the_answer
from tests.stand_in import StandIn


async def joined(activations: Activations, order_id: int) -> "asyncio.Task[Activation]":
    """A call that waits for an attempt of another process."""
    task = asyncio.create_task(activations.activate(order_id, actor="key:2"))
    await until(lambda: bool(activations._watch._waiting))  # noqa: SLF001 - it waits
    return task


@pytest.mark.parametrize(
    ("result", "retry_after_s"),
    [
        (SupplierRefused("no"), None),
        (SupplierUnreachable("no connection"), None),
        (SupplierRateLimited("later", retry_after_s=70), 70),
        (SupplierOutcomeUnknown("lost"), None),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_failure_elsewhere_is_told_without_its_words(
    house: House,
    provider: ConnectedYou,
    activations: Activations,
    result: EsimProvisioningError,
    retry_after_s: int | None,
) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    waiting = await joined(activations, intent.order_id)
    await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", result)
    with pytest.raises(type(result)) as caught:
        await waiting
    assert str(caught.value) == "an activation by another process failed"
    assert caught.value.retry_after_s == retry_after_s


async def test_a_failure_elsewhere_that_this_release_does_not_know_is_an_unknown_outcome(
    house: House, provider: ConnectedYou, activations: Activations
) -> None:
    """A process of the next release may have made the call."""
    intent = await an_intent(house, provider, await an_order(house.db))
    waiting = await joined(activations, intent.order_id)
    async with house.db.begin() as connection:
        await connection.execute(
            text("UPDATE provisioning_attempts SET outcome = 'unknown', problem = 'of-the-future', closed_at = now()")
        )
    with pytest.raises(SupplierOutcomeUnknown):
        await waiting


async def test_a_purchase_elsewhere_is_told_as_no_news(
    house: House, provider: ConnectedYou, activations: Activations
) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    waiting = await joined(activations, intent.order_id)
    esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", await the_answer(provider, intent))
    assert await waiting == Activation(esim, is_first=False, is_done=True)


async def test_a_failure_elsewhere_is_none_where_an_earlier_attempt_has_brought_the_esim(
    house: House, provider: ConnectedYou, activations: Activations
) -> None:
    first, esim_id = await an_unknown(house, provider)
    late = await the_answer(provider, first)
    await resolve_not_issued(house.db, house.vault, esim_id, reason="their portal shows none", actor="cli:eva")
    second = await an_intent(house, provider, first.order_id)
    waiting = await joined(activations, first.order_id)
    esim, _ = await record_answer(house.db, house.vault, first, "CONNECTED_YOU", late)
    await record_answer(house.db, house.vault, second, "CONNECTED_YOU", SupplierRefused("no"))
    assert await waiting == Activation(esim, is_first=False, is_done=True)


async def test_who_hears_a_no_for_an_order_that_a_person_has_settled_meanwhile_gets_that_esim(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_order(house.db)
    supplier.script("hold")
    call = asyncio.create_task(activations.activate(order_id, actor="key:1"))
    await supplier.wait_until_held(1)
    await deadline_passes(house)
    await sweep(house.db)
    esim_id = (await on_file(house, order_id)).profile.id
    code = ActivationCode.read("LPA:1$smdp.example.com$TYPED")
    settled = await resolve_issued(
        house.db, house.vault, esim_id, code=code, iccid=None, reason="by mail", actor="cli:eva"
    )
    supplier.release(then="status_402")
    assert await call == Activation(settled, is_first=False, is_done=True)


async def test_what_will_be_delivered_later_is_under_way_for_everybody(
    house: House, make_activations: MakeActivations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No provider does it yet; the interface has it from the start."""
    asked, heard = asyncio.Event(), asyncio.Event()

    async def accepts(*_: object, **__: object) -> Accepted:
        asked.set()
        await heard.wait()
        return Accepted(Answer(202, b"soon"), provider_reference="CY-77")

    monkeypatch.setattr(ConnectedYou, "provision", accepts)
    here, there = make_activations(), make_activations()
    order_id = await an_order(house.db)
    first = asyncio.create_task(here.activate(order_id, actor="key:1"))
    await asked.wait()
    beside = asyncio.create_task(here.activate(order_id, actor="key:1"))  # with the first, in one process
    waiting = await joined(there, order_id)
    heard.set()
    for activation in (await first, await beside, await waiting, await there.activate(order_id, actor="key:1")):
        assert (activation.esim.status, activation.is_first, activation.is_done) == ("provisioning", False, False)
        assert activation.esim.provider_reference == "CY-77"
    filed = await on_file(house, order_id)
    assert [(each.outcome, each.problem, each.response_status) for each in filed.attempts] == [("accepted", None, 202)]
    assert filed.audit == ["esims.activation_started", "esims.accepted"]
    assert filed.jobs == 0


async def test_who_activates_during_a_failing_call_shares_its_failure_to_the_letter(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    supplier.script("hold")
    order_id = await an_order(house.db)
    calls = [asyncio.create_task(activations.activate(order_id, actor=f"key:{number}")) for number in range(3)]
    await supplier.wait_until_held(1)
    supplier.release(then="status_402")
    failures: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(failure) for failure in failures] == [SupplierRefused] * 3
    assert len({str(failure) for failure in failures}) == 1
    assert supplier.request_count == 1


async def test_a_status_without_an_attempt_is_a_bug_and_said_to_be_one(house: House, activations: Activations) -> None:
    order_id = await an_order(house.db)
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE esim_profiles SET status = 'provisioning'"))
    with pytest.raises(RuntimeError, match="an eSIM is provisioning without an attempt under way"):
        await activations.activate(order_id, actor="key:1")
