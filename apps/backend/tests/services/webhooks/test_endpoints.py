"""Endpoints: what they hear, and the secrets by which they know us."""

import asyncio
from base64 import b64decode

import pytest
from sqlalchemy import text

from app.db import Database
from app.errors import NotFound
from app.house import House
from app.services.secrets.rotate import rotate
from app.services.webhooks.endpoints import (
    MOST_ENDPOINTS,
    Endpoint,
    TooManyEndpoints,
    add_endpoint,
    change_endpoint,
    endpoint_by_id,
    list_endpoints,
    remove_endpoint,
    rotate_secret,
)
from app.services.webhooks.events import KINDS, OrderPaid
from app.services.webhooks.line import Line, Outcome
from app.services.webhooks.rehearse import rehearse
from app.services.webhooks.standing import count_endpoints
from app.settings import Settings
from app.vault import Keyring
from tests.services.webhooks.conftest import (
    Receiver,
    an_endpoint,
    endpoint_on_file,
    events_on_file,
    time_passes,
    told,
    worked_off,
)

URL = "https://shop.example.com/tribi?token=s3cret"


async def added(house: House, url: str = URL, *events: str) -> tuple[Endpoint, str]:
    async with house.db.begin() as connection:
        return await add_endpoint(connection, house.keyring, url, events, allow_private=False, actor="cli:eva")


async def test_a_secret_is_32_random_bytes_and_kept_sealed(house: House) -> None:
    endpoint, secret = await added(house)
    assert secret.startswith("whsec_")
    assert len(b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert (await added(house))[1] != secret
    on_file = await endpoint_on_file(house.db, endpoint.id)
    assert secret.encode() not in on_file.secret
    assert b64decode(secret.removeprefix("whsec_")) not in on_file.secret
    assert "s3cret" not in repr(endpoint)


async def test_what_was_done_is_on_the_audit_trail_without_what_may_be_secret(house: House) -> None:
    endpoint, secret = await added(house, URL, "order.paid")
    async with house.db.begin() as connection:
        await rotate_secret(connection, house.keyring, endpoint.id, actor="cli:eva")
        await change_endpoint(connection, endpoint.id, events=[], is_enabled=False, allow_private=False, actor="key:1")
        await remove_endpoint(connection, endpoint.id, actor="key:1")
    async with house.db.read() as connection:
        trail = (
            await connection.execute(
                text("SELECT actor, tag, details FROM audit_log WHERE subject_type = 'webhook_endpoints' ORDER BY id")
            )
        ).all()
    assert [(row.actor, row.tag) for row in trail] == [
        ("cli:eva", "webhooks.added"),
        ("cli:eva", "webhooks.secret_rotated"),
        ("key:1", "webhooks.changed"),
        ("key:1", "webhooks.removed"),
    ]
    assert trail[0].details == {"host": "shop.example.com", "events": ["order.paid"]}
    assert trail[2].details["changed"] == ["events", "is_enabled"]
    assert "s3cret" not in repr(trail)
    assert secret not in repr(trail)


async def test_an_installation_has_so_many_endpoints_and_no_more_however_many_come_at_once(house: House) -> None:
    for _ in range(MOST_ENDPOINTS - 3):
        await added(house)
    ends = await asyncio.gather(*(added(house) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(end, TooManyEndpoints) for end in ends) == 5
    async with house.db.read() as connection:
        assert len(await list_endpoints(connection)) == MOST_ENDPOINTS


@pytest.mark.parametrize("name", ["order.lost", "", "ORDER.PAID", "order.paid,esim.provisioned", "*"])
async def test_an_event_that_is_none_is_refused_with_those_that_are(house: House, name: str) -> None:
    with pytest.raises(ValueError, match=r"there are: order\.paid, esim\.provisioned"):
        await added(house, URL, name)


async def test_events_are_kept_each_once(house: House) -> None:
    endpoint, _ = await added(house, URL, "esim.refused", "order.paid", "esim.refused")
    assert endpoint.events == ("order.paid", "esim.refused")


async def test_what_is_not_there_is_not_found(house: House) -> None:
    async with house.db.begin() as connection:
        for act in (
            endpoint_by_id(connection, 4711),
            change_endpoint(connection, 4711, is_enabled=True, allow_private=False, actor="cli:eva"),
            change_endpoint(connection, 4711, allow_private=False, actor="cli:eva"),
            rotate_secret(connection, house.keyring, 4711, actor="cli:eva"),
            remove_endpoint(connection, 4711, actor="cli:eva"),
        ):
            with pytest.raises(NotFound, match="4711"):
                await act


async def test_another_encryption_key_leaves_the_secrets_as_they_are(
    db: Database, settings: Settings, receiver: Receiver
) -> None:
    old, new = bytes([1]) * 32, bytes([2]) * 32
    local = settings.model_copy(update={"webhooks_allow_private": True})
    before = House(local, db, Keyring((old,)))
    await before.settle()
    endpoint_id, former = await an_endpoint(before, receiver.url)
    async with db.begin() as connection:
        _, secret = await rotate_secret(connection, before.keyring, endpoint_id, actor="cli:eva")
        await connection.execute(text("UPDATE encryption_keys SET in_use_until = now() - interval '1 hour'"))
    both = House(local, db, Keyring((new, old)))
    await both.settle()
    assert (await rotate(both, actor="cli:eva")).sealed_anew["webhook_endpoints"] == 1
    after = House(local, db, Keyring((new,)))
    await after.settle()
    await told(after, OrderPaid(order_id=1, esim_id=1, is_live=False))
    await worked_off(after)
    receiver.heard[0].verified(secret)
    receiver.heard[0].verified(former)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rehearsal_is_an_example_of_the_event_marked_as_a_test_and_in_no_log(
    telling_house: House, receiver: Receiver, kind: str
) -> None:
    endpoint_id, secret = await an_endpoint(telling_house, receiver.url)
    line = Line(allow_private=True)
    try:
        rehearsal = await rehearse(telling_house, endpoint_id, kind, line=line)
    finally:
        await line.close()
    payload = receiver.heard[0].verified(secret)
    assert (payload["type"], payload["data"]["test"], payload["data"]["is_live"]) == (kind, True, False)
    assert rehearsal.answer.outcome is Outcome.DELIVERED
    assert receiver.heard[0].message_id.startswith("msg_test_")
    assert await events_on_file(telling_house.db) == []


async def test_what_an_operator_watches_is_counted(telling_house: House, receiver: Receiver) -> None:
    receiver.always(500)
    failing, _ = await an_endpoint(telling_house, receiver.url)
    ids = [(await an_endpoint(telling_house, receiver.url))[0] for _ in range(2)]
    await told(telling_house, OrderPaid(order_id=1, esim_id=1, is_live=False))
    await worked_off(telling_house)
    async with telling_house.db.begin() as connection:
        for endpoint_id, because in zip(ids, ("gone", "asked"), strict=True):
            await connection.execute(
                text("UPDATE webhook_endpoints SET disabled_at = now(), disabled_because = :b WHERE id = :i"),
                {"b": because, "i": endpoint_id},
            )
        before = await count_endpoints(connection)
    await time_passes(telling_house.db, "61 minutes")
    async with telling_house.db.read() as connection:
        after = await count_endpoints(connection)
    assert (before.pending, before.failing, before.disabled) == (1, 0, 1)
    assert (after.pending, after.failing, after.disabled) == (1, 1, 1)
    assert failing
