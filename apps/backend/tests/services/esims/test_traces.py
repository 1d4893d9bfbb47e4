"""What an act leaves for people to read: every column on file, every row of the trail, every line of the log, to the letter."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app import failpoints
from app.failpoints import Point
from app.house import House
from app.services.esim_providers import (
    EsimProvisioningError,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
)
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims import recover
from app.services.esims.activate import Activations
from app.services.esims.answer import record_answer
from app.services.esims.esim import place_of
from app.services.esims.intent import attempt_place
from app.services.esims.recover import sweep
from app.services.esims.resolve import resolve_issued, resolve_not_issued
from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid
from app.vault import Place
from tests.builders import an_order
from tests.services.esims.conftest import TIMEOUT_S, on_file
from tests.services.esims.test_settling import an_intent, an_unknown, deadline_passes, the_answer
from tests.stand_in import StandIn, respond

WORDS = b"we are sorry"


async def the_trail(house: House, profile_id: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Who did what to an eSIM, with all details."""
    async with house.db.read() as connection:
        rows = await connection.execute(
            text(
                "SELECT actor, tag, details FROM audit_log WHERE subject_type = 'esim_profiles' AND subject_id = :id ORDER BY id"
            ),
            {"id": profile_id},
        )
        return [(row.actor, row.tag, row.details) for row in rows]


@contextmanager
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged about eSIMs."""
    told: list[dict[str, Any]] = []
    with capture_logs() as logs:
        yield told
    told += [dict(line) for line in logs if line["event"].startswith("esims.")]


async def grow_old(house: House) -> None:
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE esim_profiles SET updated_at = '2020-01-01'"))


async def is_touched(house: House) -> bool:
    async with house.db.read() as connection:
        return bool(await connection.scalar(text("SELECT min(updated_at) > '2021-01-01' FROM esim_profiles")))


async def test_a_purchase_is_on_file_to_the_last_column(
    house: House, activations: Activations, provider: ConnectedYou, supplier: StandIn
) -> None:
    order_id = await an_order(house.db, is_live=False)
    await grow_old(house)
    with lines() as told:
        activation = await activations.activate(order_id, actor="key:7")
    filed = await on_file(house, order_id)
    [attempt], profile, [issued] = filed.attempts, filed.profile, supplier.issued
    assert (attempt.provider, attempt.is_live, attempt.reference) == ("CONNECTED_YOU", True, f"order-{order_id}")
    assert (attempt.base_url, attempt.partner_id) == (supplier.url, "partner-of-tests")
    assert (attempt.is_replay, attempt.requested_by, attempt.problem, attempt.retry_after_s) == (
        *(False, "key:7"),
        *(None, None),
    )
    assert (attempt.outcome, attempt.response_status, attempt.error) == ("delivered", 200, None)
    [received] = supplier.requests
    request = house.vault.keyring.open(attempt.request, attempt_place("request", attempt.id))
    assert request == received.body
    body = house.vault.keyring.open(attempt.response_body, attempt_place("response_body", attempt.id))
    assert issued.activation_code.encode() in body
    assert (attempt.deadline_at - attempt.opened_at).total_seconds() == pytest.approx(TIMEOUT_S + 5, abs=0.5)
    assert 0 <= attempt.duration_ms <= 1000 * (attempt.closed_at - attempt.opened_at).total_seconds() + 1000
    assert (profile.provider, profile.is_live, profile.provider_reference) == ("CONNECTED_YOU", True, attempt.reference)
    assert (profile.status, profile.plan_state, profile.profile_state) == ("provisioned", "not_started", None)
    assert activation.esim.qr_code == issued.activation_code
    assert activation.esim.instructions == "Scan the QR code in your phone's eSIM settings."
    assert await is_touched(house)
    assert await the_trail(house, profile.id) == [
        ("key:7", "esims.activation_started", {"attempt_id": attempt.id}),
        ("key:7", "esims.provisioned", {"attempt_id": attempt.id}),
    ]
    assert told == [
        {
            "event": "esims.activated",
            "log_level": "info",
            "order_id": order_id,
            "esim_id": profile.id,
            "status": "provisioned",
            "is_live": True,
        }
    ]


def test_what_is_sealed_for_an_attempt_is_sealed_for_its_row() -> None:
    """`tribi secrets rotate` finds each sealed value by its table, column and row."""
    assert attempt_place("request", 7) == Place("provisioning_attempts", "request", 7)


async def test_the_named_instants_come_by_in_order_with_the_orders_reference(
    house: House, activations: Activations, provider: ConnectedYou, monkeypatch: pytest.MonkeyPatch
) -> None:
    come_by: list[tuple[Point, str]] = []
    monkeypatch.setattr(failpoints, "reached", lambda point, reference: come_by.append((point, reference)))
    order_id = await an_order(house.db)
    await activations.activate(order_id, actor="key:1")
    intent, _ = await an_unknown(house, provider)
    left = [point for point, reference in come_by if reference == f"order-{intent.order_id}"]
    assert [point for point, reference in come_by if reference == f"order-{order_id}"] == [
        point for point in Point if not point.startswith("sweep.")
    ]
    assert left == [*list(Point)[:3], Point.SWEEP_LOCKED, Point.SWEEP_WRITTEN]


@pytest.mark.parametrize(
    ("status", "headers", "error", "tag", "outcome", "wait_s"),
    [
        (402, {}, SupplierRefused, "esims.activation_refused", "refused", None),
        (404, {}, SupplierRefused, "esims.activation_refused", "refused", None),
        (429, {"Retry-After": "70"}, SupplierRateLimited, "esims.activation_held_off", "held_off", 70),
        (500, {}, SupplierOutcomeUnknown, "esims.outcome_unknown", "unknown", None),
    ],
)
async def test_a_failure_is_on_file_with_the_providers_words_and_told_once(
    house: House,
    activations: Activations,
    supplier: StandIn,
    status: int,
    headers: dict[str, str],
    error: type[EsimProvisioningError],
    tag: str,
    outcome: str,
    wait_s: int | None,
) -> None:
    supplier.script(respond(status, WORDS.decode(), headers))
    order_id = await an_order(house.db)
    await grow_old(house)
    with lines() as told, pytest.raises(error) as caught:
        await activations.activate(order_id, actor="key:1")
    filed = await on_file(house, order_id)
    [attempt] = filed.attempts
    assert (attempt.outcome, attempt.problem, attempt.retry_after_s) == (outcome, error.code, wait_s)
    assert (attempt.response_status, attempt.error) == (status, str(caught.value))
    assert str(caught.value).endswith(f"HTTP {status}: {WORDS.decode()}")
    for sealed, place in (
        (attempt.response_body, attempt_place("response_body", attempt.id)),
        (filed.profile.provider_payload, place_of("provider_payload", filed.profile.id)),
    ):
        assert house.vault.keyring.open(sealed, place) == WORDS
    assert await is_touched(house)
    assert (await the_trail(house, filed.profile.id))[1:] == [("key:1", tag, {"attempt_id": attempt.id})]
    assert told == [
        {
            "event": "esims.activation_failed",
            "log_level": "error",
            "order_id": order_id,
            "problem": error.code,
            "provider": "CONNECTED_YOU",
            "concerns_account": status == 402,
            "error": str(caught.value),
        }
    ]


async def test_the_sweep_gives_up_what_is_overdue_and_says_so(house: House, provider: ConnectedYou) -> None:
    in_time, overdue = [await an_intent(house, provider, await an_order(house.db)) for _ in range(2)]
    await grow_old(house)
    async with house.db.begin() as connection:
        await connection.execute(
            text("UPDATE provisioning_attempts SET deadline_at = now() - interval '1 second' WHERE id = :id"),
            {"id": overdue.attempt_id},
        )
    with lines() as told:
        assert await sweep(house.db) == 1
    given_up, left = [(await on_file(house, intent.order_id)) for intent in (overdue, in_time)]
    [attempt] = given_up.attempts
    assert (given_up.profile.status, attempt.outcome, attempt.problem) == (
        *("unknown", "unknown"),
        "activation-outcome-unknown",
    )
    assert attempt.closed_at is not None
    assert attempt.error.startswith("no answer was stored before the attempt's deadline: ")
    assert given_up.profile.updated_at.year > 2020
    assert (await the_trail(house, overdue.profile_id))[1:] == [
        ("system", "esims.outcome_unknown", {"attempt_id": attempt.id})
    ]
    assert told == [
        {
            "event": "esims.outcome_unknown",
            "log_level": "error",
            "order_id": overdue.order_id,
            "attempt_id": attempt.id,
            "error": "no answer was stored in time",
        }
    ]
    assert (left.profile.status, left.attempts[0].outcome, left.profile.updated_at.year) == ("provisioning", None, 2020)


async def test_the_sweep_takes_no_esim_away_that_another_attempt_has_brought(
    house: House, provider: ConnectedYou
) -> None:
    first, esim_id = await an_unknown(house, provider)
    late = await the_answer(provider, first)
    await resolve_not_issued(house.db, house.vault, esim_id, reason="their portal shows none", actor="cli:eva")
    second = await an_intent(house, provider, first.order_id)
    await record_answer(house.db, house.vault, first, "CONNECTED_YOU", late)
    await deadline_passes(house)
    assert await sweep(house.db) == 1
    filed = await on_file(house, second.order_id)
    assert (filed.profile.status, [attempt.outcome for attempt in filed.attempts]) == (
        "provisioned",
        ["delivered", "unknown"],
    )


async def test_an_answer_that_comes_between_the_sweeps_look_and_its_lock_stays(
    house: House, provider: ConnectedYou
) -> None:
    intent = await an_intent(house, provider, await an_order(house.db))
    await record_answer(house.db, house.vault, intent, "CONNECTED_YOU", SupplierRefused("no"))
    before = await on_file(house, intent.order_id)
    async with house.db.begin() as connection:
        assert not await recover._give_up(connection, intent.profile_id, intent.attempt_id)  # noqa: SLF001 - it has looked
    assert await on_file(house, intent.order_id) == before


async def test_a_persons_word_is_on_file_with_its_reason_and_without_what_is_secret(
    house: House, provider: ConnectedYou
) -> None:
    intent, esim_id = await an_unknown(house, provider)
    other, other_id = await an_unknown(house, provider)
    await grow_old(house)
    code, iccid = ActivationCode.read("LPA:1$XYZ"), Iccid.read("8999 9000 0000 0000 012")
    reason = "ana@example.com told us by telephone"
    esim = await resolve_issued(house.db, house.vault, esim_id, code=code, iccid=iccid, reason=reason, actor="cli:eva")
    await resolve_not_issued(house.db, house.vault, other_id, reason=reason, actor="cli:bob")
    assert (esim.status, esim.plan_state, esim.iccid) == ("provisioned", "not_started", "8999900000000000012")
    assert set(esim.warnings) == {*code.warnings, *iccid.warnings}
    assert {"activation-code-not-sgp22", "iccid-reformatted"} <= set(esim.warnings)
    assert await is_touched(house)
    shown = "[email] told us by telephone"
    details = [{"reason": shown, "attempt_id": each.attempt_id} for each in (intent, other)]
    assert (await the_trail(house, esim_id))[-1] == ("cli:eva", "esims.resolved_issued", details[0])
    assert (await the_trail(house, other_id))[-1] == ("cli:bob", "esims.resolved_not_issued", details[1])
