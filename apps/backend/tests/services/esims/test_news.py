"""What sellers hear of: every turn in an eSIM's life, told in its transaction, once, and nothing that is secret."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from sqlalchemy import text

from app.house import House
from app.main import create_app
from app.services.esim_providers import EsimProvisioningError, SupplierOutcomeUnknown, SupplierUnreachable
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esim_providers.connected_you.dry_run import DryRun
from app.services.esims.activate import Activations
from app.services.esims.answer import record_answer
from app.services.esims.errors import OutcomeStillUnknown
from app.services.esims.recover import sweep
from app.services.esims.resolve import resolve_issued, resolve_not_issued
from app.services.orders.forgotten import file_forgotten
from app.services.webhooks.payload import payload
from app.settings import Settings
from tests.builders import an_order
from tests.services.esims.conftest import MakeActivations
from tests.services.esims.statements import statements_of
from tests.services.esims.test_settling import CODE, an_intent, an_unknown, deadline_passes, the_answer
from tests.services.webhooks.conftest import an_endpoint, deliveries_on_file, events_on_file
from tests.stand_in import StandIn

URL = "https://shop.example.com/tribi"


async def kinds(house: House) -> list[str]:
    return [event.type for event in await events_on_file(house.db)]


async def activate(activations: Activations, order_id: int) -> None:
    with suppress(EsimProvisioningError):
        await activations.activate(order_id, actor="key:1")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, ["esim.provisioned"]),
        ("status_402", ["esim.refused"]),
        ("close_after", ["esim.outcome_unknown"]),
        ("status_429", []),
    ],
)
async def test_an_order_is_told_and_what_becomes_of_it(
    house: House, activations: Activations, supplier: StandIn, answer: str | None, told: list[str]
) -> None:
    await an_endpoint(house, URL)
    order_id = await an_order(house.db, is_live=True)
    if answer is not None:
        supplier.script(answer)
    await activate(activations, order_id)
    events = await events_on_file(house.db)
    assert [event.type for event in events] == ["order.paid", *told]
    for event in events:
        assert (event.data["order_id"], event.data["is_live"]) == (order_id, True)
    assert len(await deliveries_on_file(house.db)) == len(events)


async def test_nothing_was_sent_is_nothing_to_tell(
    house: House, make_activations: MakeActivations, provider: ConnectedYou
) -> None:
    await an_endpoint(house, URL)
    intent = await an_intent(house, provider, await an_order(house.db))
    await record_answer(house.db, house.vault, intent, provider.name, SupplierUnreachable("no route"))
    assert await kinds(house) == ["order.paid"]


async def test_an_unknown_that_the_sweep_finds_is_told_once_and_so_is_its_late_answer(
    house: House, provider: ConnectedYou
) -> None:
    await an_endpoint(house, URL)
    intent, _ = await an_unknown(house, provider)
    assert await sweep(house.db) == 0
    assert await kinds(house) == ["order.paid", "esim.outcome_unknown"]
    await record_answer(house.db, house.vault, intent, provider.name, SupplierUnreachable("late"))
    delivered = await the_answer(provider, intent)
    for _ in range(3):  # only its acknowledgement was lost
        await record_answer(house.db, house.vault, intent, provider.name, delivered)
    assert [(event.type, event.data["is_live"]) for event in (await events_on_file(house.db))[1:]] == [
        ("esim.outcome_unknown", True),
        ("esim.provisioned", True),
    ]


async def test_that_a_forgotten_attempt_failed_is_told_as_unknown(house: House, provider: ConnectedYou) -> None:
    await an_endpoint(house, URL)
    order_id = await an_order(house.db, is_live=True)
    intent = await an_intent(house, provider, order_id)
    async with house.db.begin() as connection:
        await connection.execute(text("DELETE FROM provisioning_attempts"))
        await connection.execute(text("UPDATE esim_profiles SET status = 'pending'"))
    await record_answer(house.db, house.vault, intent, provider.name, SupplierOutcomeUnknown("lost"))
    [_, told] = await events_on_file(house.db)
    unknown = {"order_id": order_id, "esim_id": intent.profile_id, "is_live": True}
    assert (told.type, told.data) == ("esim.outcome_unknown", told.data | unknown)


async def test_an_answer_that_is_stored_again_is_not_told_again(house: House, provider: ConnectedYou) -> None:
    await an_endpoint(house, URL)
    intent = await an_intent(house, provider, await an_order(house.db))
    delivered = await the_answer(provider, intent)
    for _ in range(3):
        await record_answer(house.db, house.vault, intent, provider.name, delivered)
    assert await kinds(house) == ["order.paid", "esim.provisioned"]


async def test_a_replay_that_brings_the_esim_is_told_and_one_that_does_not_is_no_news(
    house: House, make_activations: MakeActivations, replaying: ConnectedYou, supplier: StandIn
) -> None:
    await an_endpoint(house, URL)
    order_id = await an_order(house.db)
    activations = make_activations(replaying)
    supplier.script("close_after", "status_402")
    await activate(activations, order_id)
    with pytest.raises(OutcomeStillUnknown):
        await activations.replay(order_id, actor="cli:test")
    await activations.replay(order_id, actor="cli:test")
    assert await kinds(house) == ["order.paid", "esim.outcome_unknown", "esim.provisioned"]


async def test_a_replay_that_the_sweep_ends_asks_nothing_new(house: House, provider: ConnectedYou) -> None:
    await an_endpoint(house, URL)
    _, esim_id = await an_unknown(house, provider)
    async with house.db.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO provisioning_attempts (profile_id, provider, is_live, reference, is_replay, requested_by, deadline_at)"
                " VALUES (:id, 'CONNECTED_YOU', true, 'order-1', true, 'system', now() - interval '1 second')"
            ),
            {"id": esim_id},
        )
    assert await sweep(house.db) == 1
    assert await kinds(house) == ["order.paid", "esim.outcome_unknown"]


async def test_a_persons_word_is_told(house: House, provider: ConnectedYou) -> None:
    await an_endpoint(house, URL)
    bought, issued = await an_unknown(house, provider)
    tried, not_issued = await an_unknown(house, replace(provider, line=DryRun()))
    await resolve_issued(house.db, house.vault, issued, code=CODE, iccid=None, reason="ticket", actor="cli:test")
    await resolve_not_issued(house.db, house.vault, not_issued, reason="ticket", actor="cli:test")
    live = {"order_id": bought.order_id, "esim_id": issued, "is_live": True}
    test = {"order_id": tried.order_id, "esim_id": not_issued, "is_live": False}
    assert [(event.type, event.data) for event in (await events_on_file(house.db))[4:]] == [
        ("esim.resolved", live | {"how": "issued", "status": "provisioned"}),
        ("esim.provisioned", live | {"status": "provisioned"}),
        ("esim.resolved", test | {"how": "not_issued", "status": "pending"}),
    ]


async def test_what_a_restore_has_forgotten_is_told_as_unknown(house: House, provider: ConnectedYou) -> None:
    await an_endpoint(house, URL)
    order_id = await an_order(house.db)
    async with house.db.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO forgotten_attempts (attempt_id, opened_at, reference, order_id, placed_at, provider, order_key)"
                " VALUES (900, now(), 'order-1', :id, now(), 'CONNECTED_YOU', 'hash')"
            ),
            {"id": order_id},
        )
        profile_id = await connection.scalar(
            text("SELECT id FROM esim_profiles WHERE order_id = :id"), {"id": order_id}
        )
        await file_forgotten(connection, order_id, profile_id)
    assert await kinds(house) == ["order.paid", "esim.outcome_unknown"]


async def the_answers_act(house: House, provider: ConnectedYou) -> Callable[[], Awaitable[object]]:
    intent = await an_intent(house, provider, await an_order(house.db))
    delivered = await the_answer(provider, intent)
    return lambda: record_answer(house.db, house.vault, intent, provider.name, delivered)


async def the_sweeps_act(house: House, provider: ConnectedYou) -> Callable[[], Awaitable[object]]:
    await an_intent(house, provider, await an_order(house.db))
    await deadline_passes(house)
    return lambda: sweep(house.db)


@pytest.mark.parametrize("act_of", [the_answers_act, the_sweeps_act])
async def test_what_is_rolled_back_is_not_told(
    house: House, provider: ConnectedYou, act_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await an_endpoint(house, URL)
    act = await act_of(house, provider)
    async with house.db.begin() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
                "CREATE CONSTRAINT TRIGGER no_commit AFTER UPDATE ON esim_profiles DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )
    with pytest.raises(Exception, match="no"):
        await act()
    assert await kinds(house) == ["order.paid"]
    async with house.db.begin() as connection:
        await connection.execute(text("DROP TRIGGER no_commit ON esim_profiles"))
    await act()
    assert len(await kinds(house)) == 2


async def test_without_an_endpoint_that_wants_it_nothing_is_written(house: House, activations: Activations) -> None:
    await activate(activations, await an_order(house.db))
    assert await kinds(house) == []
    await an_endpoint(house, URL, "esim.refused")
    await activate(activations, await an_order(house.db))
    assert await kinds(house) == []


async def test_telling_costs_an_activation_no_round_trip(house: House, activations: Activations) -> None:
    without = await statements_of(house, activations)
    for _ in range(3):
        await an_endpoint(house, URL)
    told = await statements_of(house, activations)
    assert len(told) == len(without)
    assert sum("webhook_" in statement for statement in without) == 1
    assert len(await kinds(house)) == 2


async def test_no_activation_waits_for_somebody_who_manages_endpoints(house: House, activations: Activations) -> None:
    endpoint_id, _ = await an_endpoint(house, URL)
    async with house.db.begin() as connection:
        await connection.execute(
            text("DELETE FROM webhook_endpoints WHERE id = :id"), {"id": endpoint_id}
        )  # and not committed yet
        async with asyncio.timeout(20):
            await activate(activations, await an_order(house.db))
    assert await kinds(house) == ["order.paid", "esim.provisioned"]


async def test_what_is_told_is_thin_and_as_the_document_says(
    house: House, activations: Activations, provider: ConnectedYou
) -> None:
    await an_endpoint(house, URL)
    order_id = await an_order(house.db)
    esim = (await activations.activate(order_id, actor="key:1")).esim
    _, unknown = await an_unknown(house, provider)
    await resolve_not_issued(house.db, house.vault, unknown, reason="ticket", actor="cli:test")
    document = create_app(Settings()).app.openapi()
    events = await events_on_file(house.db)
    assert len({event.type for event in events}) == 4
    for event in events:
        schema = document["webhooks"][event.type]["post"]["requestBody"]["content"]["application/json"]["schema"]
        told = payload(event.type, event.occurred_at, event.data)
        Draft202012Validator(schema | {"components": document["components"]}).validate(told)
        written = json.dumps(told)
        assert esim.activation_code is not None
        for secret in (esim.activation_code.text, esim.activation_code.matching_id, esim.iccid, "ana@", "Ana", "LPA"):
            assert secret
            assert secret not in written
