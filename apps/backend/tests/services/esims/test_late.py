"""What comes when nobody expects it any more: the order's own eSIM, one that nobody needs, or words that change nothing."""

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from app.db import Database
from app.errors import DatabaseUnavailable
from app.house import House
from app.services.esim_providers import Answer, Delivered, SupplierOutcomeUnknown, SupplierUnreachable
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims.activate import Activations
from app.services.esims.answer import record_answer
from app.services.esims.esim import place_of
from app.services.esims.intent import attempt_place
from app.services.esims.resolve import resolve_issued, resolve_not_issued
from app.values.activation_code import ActivationCode
from tests.builders import an_order
from tests.services.esims.conftest import on_file
from tests.services.esims.test_settling import an_intent, an_unknown, the_answer
from tests.services.esims.test_traces import lines, the_trail
from tests.services.esims.test_traces_of_trouble import counted


async def test_the_answer_with_the_very_code_that_a_person_typed_in_is_kept_and_changes_nothing(
    house: House, provider: ConnectedYou
) -> None:
    intent, esim_id = await an_unknown(house, provider)
    late = await the_answer(provider, intent)
    typed_in = await resolve_issued(
        house.db, house.vault, esim_id, code=late.activation_code, iccid=late.iccid, reason="by mail", actor="cli:eva"
    )
    for _ in range(2):
        esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", late)
        assert esim == typed_in
    filed = await on_file(house, intent.order_id)
    [attempt] = filed.attempts
    assert (attempt.outcome, attempt.response_status, attempt.error, filed.jobs) == ("unknown", 200, None, 1)
    for sealed, place in (
        (attempt.response_body, attempt_place("response_body", attempt.id)),
        (filed.profile.provider_payload, place_of("provider_payload", esim_id)),
    ):
        assert house.vault.keyring.open(sealed, place) == late.answer.body
    assert (await the_trail(house, esim_id))[2:] == [
        ("cli:eva", "esims.resolved_issued", {"reason": "by mail", "attempt_id": attempt.id}),
        ("key:1", "esims.provisioned", {"attempt_id": attempt.id, "late": True}),
    ]


async def test_another_code_than_a_person_typed_in_is_surplus_once(house: House, provider: ConnectedYou) -> None:
    intent, esim_id = await an_unknown(house, provider)
    late, typed_in = await the_answer(provider, intent), ActivationCode.read("LPA:1$smdp.example.com$TYPED")
    await resolve_issued(house.db, house.vault, esim_id, code=typed_in, iccid=None, reason="by mail", actor="cli:eva")
    before = counted("tribi_esims_surplus_total")
    for _ in range(2):
        esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", late)
        assert esim.activation_code == typed_in
    filed = await on_file(house, intent.order_id)
    assert [attempt.outcome for attempt in filed.attempts] == ["surplus"]
    assert filed.audit.count("esims.surplus") == 1
    assert counted("tribi_esims_surplus_total") == before + 1


async def test_a_code_that_names_no_profile_is_stored_once_however_often_it_comes(
    house: House, provider: ConnectedYou
) -> None:
    """It has no fingerprint by which it could be known again."""
    intent = await an_intent(house, provider, await an_order(house.db))
    result = Delivered(ActivationCode.read("LPA:1$SMDP.EXAMPLE.COM$"), Answer(200, b"{}"))
    for _ in range(2):
        esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", result)
        assert esim.status == "provisioned"
    filed = await on_file(house, intent.order_id)
    assert ([attempt.outcome for attempt in filed.attempts], filed.jobs) == (["delivered"], 1)
    assert filed.audit == ["esims.activation_started", "esims.provisioned"]


async def test_an_esim_for_an_order_that_was_cancelled_meanwhile_is_surplus(
    house: House, provider: ConnectedYou
) -> None:
    intent, esim_id = await an_unknown(house, provider)
    late = await the_answer(provider, intent)
    await resolve_not_issued(house.db, house.vault, esim_id, reason="their portal shows none", actor="cli:eva")
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE orders SET status = 'cancelled'"))
        await connection.execute(text("UPDATE esim_profiles SET status = 'cancelled'"))
    esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", late)
    filed = await on_file(house, intent.order_id)
    assert (esim.status, esim.activation_code) == ("cancelled", None)
    assert ([attempt.outcome for attempt in filed.attempts], filed.jobs) == (["surplus"], 0)


async def test_a_late_esim_is_on_file_with_all_its_words(house: House, provider: ConnectedYou) -> None:
    intent, esim_id = await an_unknown(house, provider)
    late = replace(
        await the_answer(provider, intent), qr_code="https://qr.example/1", instructions="Scan it.", warnings=("odd",)
    )
    esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", late)
    assert (esim.qr_code, esim.instructions, esim.warnings) == ("https://qr.example/1", "Scan it.", ("odd",))
    assert (esim.provider_reference, esim.iccid) == (intent.order.reference, late.iccid and late.iccid.text)
    profile = (await on_file(house, intent.order_id)).profile
    assert house.vault.keyring.open(profile.provider_payload, place_of("provider_payload", esim_id)) == late.answer.body


async def test_codes_and_iccids_are_known_again_by_fingerprints_that_every_release_makes_alike(
    house: House, provider: ConnectedYou
) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    result = await the_answer(provider, intent)
    await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", result)
    profile = (await on_file(house, intent.order_id)).profile
    assert result.iccid is not None
    assert result.activation_code.identity is not None
    fingerprint = house.vault.fingerprint
    assert profile.activation_code_fingerprint == fingerprint("activation_code", result.activation_code.identity)
    assert profile.iccid_fingerprint == fingerprint("iccid", result.iccid.text)


async def test_codes_that_name_no_profile_may_come_twice(house: House, provider: ConnectedYou) -> None:
    result = Delivered(ActivationCode.read("LPA:1$SMDP.EXAMPLE.COM$"), Answer(200, b"{}"))
    for _ in range(2):
        intent = await an_intent(house, provider, await an_order(house.db))
        esim, stored = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", result)
        assert (esim.status, stored) == ("provisioned", result)


@pytest.mark.parametrize(
    ("status", "after"), [("pending", "unknown"), ("refused", "unknown"), ("cancelled", "cancelled")]
)
async def test_a_failure_of_a_forgotten_attempt_leaves_a_question_where_the_order_could_be_sent_again(
    house: House, provider: ConnectedYou, status: str, after: str
) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    async with house.db.begin() as connection:
        await connection.execute(text("DELETE FROM provisioning_attempts"))
        await connection.execute(text("UPDATE esim_profiles SET status = :status"), {"status": status})
    esim, _ = await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", SupplierOutcomeUnknown("lost"))
    assert esim.status == after


async def test_an_intent_that_was_never_committed_leaves_nothing_and_no_alarm(
    house: House, activations: Activations, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, is_first = Database.begin, iter([True])

    @asynccontextmanager
    async def refusing_begin(self: Database, **within: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202 - as Database.begin
        async with begin(self, **within) as connection:
            yield connection
            if next(is_first, False):
                raise DatabaseUnavailable("away")

    order_id = await an_order(house.db)
    monkeypatch.setattr(Database, "begin", refusing_begin)
    with lines() as told, pytest.raises(DatabaseUnavailable):
        await activations.activate(order_id, actor="key:1")
    assert await activations.drain(5)
    filed = await on_file(house, order_id)
    assert (filed.profile.status, filed.attempts, filed.audit, told) == ("pending", [], [], [])


async def test_that_nothing_was_sent_for_a_forgotten_intent_is_no_news(house: House, provider: ConnectedYou) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    async with house.db.begin() as connection:
        await connection.execute(text("DELETE FROM provisioning_attempts"))
        await connection.execute(text("UPDATE esim_profiles SET status = 'pending'"))
    with lines() as told:
        esim, _ = await record_answer(
            house.db, house.vault, intent, "CONNECTED_YOU", SupplierUnreachable("no connection")
        )
    assert (esim.id, esim.order_id, esim.status, told) == (intent.profile_id, intent.order_id, "pending", [])
