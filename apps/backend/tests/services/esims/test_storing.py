"""Storing an answer: what another eSIM holds already, what a column can't hold, and a database that says nothing."""

from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.errors import DatabaseUnavailable
from app.house import House
from app.services.esim_providers import Delivered, SupplierOutcomeUnknown
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims import answer
from app.services.esims.answer import record_answer
from app.services.esims.intent import Intent
from tests.builders import an_order
from tests.services.esims.conftest import on_file
from tests.services.esims.test_settling import an_intent, the_answer


async def another(house: House, provider: ConnectedYou) -> tuple[Intent, Delivered]:
    """An order that is at its answer, and the answer."""
    intent = await an_intent(house, provider, await an_order(house.db))
    return intent, await the_answer(provider, intent)


@pytest.mark.parametrize(("field", "named"), [("activation_code", "an activation code"), ("iccid", "an ICCID")])
async def test_what_another_esim_holds_is_delivered_to_nobody_and_a_person_is_asked(
    house: House, provider: ConnectedYou, field: str, named: str
) -> None:
    (first, its_own), (second, told) = await another(house, provider), await another(house, provider)
    await record_answer(house.db, house.vault, first, provider.name, its_own)
    doubled = replace(told, **{field: getattr(its_own, field)})
    esim, result = await record_answer(house.db, house.vault, second, provider.name, doubled)
    assert isinstance(result, SupplierOutcomeUnknown)
    said = f"the answer for {second.order.reference} brings {named} that another eSIM holds"
    assert (str(result), result.answer) == (said, told.answer)
    assert (esim.status, esim.activation_code) == ("unknown", None)
    filed = await on_file(house, second.order_id)
    [attempt] = filed.attempts
    assert (attempt.outcome, attempt.error, attempt.response_status, filed.jobs) == ("unknown", said, 200, 0)
    assert filed.audit == ["esims.activation_started", "esims.outcome_unknown"]
    assert (await on_file(house, first.order_id)).profile.status == "provisioned"


async def test_what_another_esim_holds_is_on_file_although_the_database_has_forgotten_the_attempt(
    house: House, provider: ConnectedYou
) -> None:
    (first, its_own), (second, _) = await another(house, provider), await another(house, provider)
    await record_answer(house.db, house.vault, first, provider.name, its_own)
    async with house.db.begin() as connection:
        await connection.execute(text("DELETE FROM provisioning_attempts WHERE id = :id"), {"id": second.attempt_id})
    await record_answer(house.db, house.vault, second, provider.name, its_own)
    [attempt] = (await on_file(house, second.order_id)).attempts
    assert (attempt.provider, attempt.outcome) == (provider.name, "unknown")


async def test_a_constraint_that_says_something_else_is_raised(house: House, provider: ConnectedYou) -> None:
    intent, delivered = await another(house, provider)
    async with house.db.begin() as connection:
        await connection.execute(text("ALTER TABLE esim_profiles ADD CONSTRAINT none CHECK (status <> 'provisioned')"))
    with pytest.raises(IntegrityError):
        await record_answer(house.db, house.vault, intent, provider.name, delivered)
    assert (await on_file(house, intent.order_id)).attempts[0].outcome is None


async def test_words_that_no_column_can_hold_are_kept_as_far_as_one_can(house: House, provider: ConnectedYou) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    await record_answer(house.db, house.vault, intent, provider.name, SupplierOutcomeUnknown("a\0b \ud800 c\u00e9"))
    [attempt] = (await on_file(house, intent.order_id)).attempts
    assert attempt.error == "a\ufffdb ? c\u00e9"


async def test_a_database_that_says_nothing_is_away_after_a_while(
    house: House, provider: ConnectedYou, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "_WITHIN_S", 0.5)
    intent, delivered = await another(house, provider)
    async with house.db.begin() as connection:
        await connection.execute(text("SELECT 1 FROM esim_profiles FOR UPDATE"))
        with pytest.raises(DatabaseUnavailable):
            await record_answer(house.db, house.vault, intent, provider.name, delivered)
    esim, _ = await record_answer(house.db, house.vault, intent, provider.name, delivered)
    assert esim.status == "provisioned"
