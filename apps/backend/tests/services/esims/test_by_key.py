"""What keys ask for at the same time: one question to the database, and everybody is told what they asked for."""

import asyncio

import psycopg
import pytest
from sqlalchemy import update

from app.errors import DatabaseUnavailable, NotFound
from app.house import House
from app.models import ServiceKey
from app.services.accounts.keys import Forbidden, Unauthenticated, revoke_key
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims.by_key import ByKey
from app.services.esims.esim import Esim, esim_by_order
from app.services.esims.intent import Looked
from tests.builders import a_key, an_order, provisioned
from tests.services.esims.test_settling import an_intent
from tests.statements import statements


@pytest.fixture
async def esims(house: House) -> list[Esim]:
    """Of three orders."""
    order_ids = [await an_order(house.db) for _ in range(3)]
    await provisioned(house.db, house.vault, order_ids)
    async with house.db.read() as connection:
        return [await esim_by_order(connection, house.vault, order_id) for order_id in order_ids]


async def test_each_is_told_of_the_esim_that_it_asked_for(house: House, esims: list[Esim]) -> None:
    (_, one), (_, other) = await a_key(house.db), await a_key(house.db)
    by_key = ByKey(house)
    told = await asyncio.gather(
        *(by_key.esim(secret, esim.id) for esim in reversed(esims) for secret in (one, other, one)),
        by_key.esim(one, 10**15),
        by_key.esim("tribi_unknown", esims[0].id),
        return_exceptions=True,
    )
    assert told[:-2] == [esim for esim in reversed(esims) for _ in range(3)]
    assert [type(one) for one in told[-2:]] == [NotFound, Unauthenticated]


async def test_each_is_told_how_the_order_stands_that_it_wants_to_activate(house: House, esims: list[Esim]) -> None:
    (key_id, secret), (_, orders_only) = await a_key(house.db), await a_key(house.db, "orders")
    open_order, unpaid = await an_order(house.db), await an_order(house.db, status="refunded")
    by_key = ByKey(house)
    told = await asyncio.gather(
        by_key.standing(secret, open_order),
        by_key.standing(secret, esims[1].order_id),
        by_key.standing(secret, unpaid),
        by_key.standing(secret, 10**15),
        by_key.standing(orders_only, esims[1].order_id),
        by_key.standing("tribi_unknown", open_order),
        return_exceptions=True,
    )
    seen = [one[1] for one in told if isinstance(one, tuple)]
    assert seen == [Looked("paid", "pending", None), esims[1], Looked("refunded", "pending", None)]
    assert [one[0].key_id for one in told if isinstance(one, tuple)] == [key_id] * 3
    assert [type(one) for one in told[3:]] == [NotFound, Forbidden, Unauthenticated]


async def test_an_attempt_that_is_open_is_seen(house: House, provider: ConnectedYou) -> None:
    _, secret = await a_key(house.db)
    intent = await an_intent(house, provider, await an_order(house.db))
    _, seen = await ByKey(house).standing(secret, intent.order_id)
    assert seen == Looked("paid", "provisioning", intent.attempt_id)


async def test_an_esim_that_there_is_not_is_named_in_the_error(house: House) -> None:
    _, secret = await a_key(house.db)
    with pytest.raises(NotFound, match=r"^there is no eSIM 4711$"):
        await ByKey(house).esim(secret, 4711)


async def test_a_hundred_at_once_are_a_few_statements(house: House, esims: list[Esim]) -> None:
    _, secret = await a_key(house.db)
    by_key = ByKey(house)
    await by_key.esim(secret, esims[0].id)
    with statements(house.db) as asked:
        told = await asyncio.gather(*(by_key.esim(secret, esims[number % 3].id) for number in range(100)))
    assert told == [esims[number % 3] for number in range(100)]
    assert len(asked) == 2


async def test_that_a_key_was_used_is_noted_once_however_many_ask(house: House, esims: list[Esim]) -> None:
    key_id, secret = await a_key(house.db)
    by_key = ByKey(house)
    async with house.db.begin() as connection:
        await connection.execute(update(ServiceKey).where(ServiceKey.id == key_id).values(last_used_at=None))
    with statements(house.db) as asked:
        await asyncio.gather(*(by_key.esim(secret, esims[0].id) for _ in range(10)))
        await by_key.esim(secret, esims[0].id)
    assert sum(statement.startswith("UPDATE service_keys") for statement in asked) == 1


async def test_a_key_that_is_revoked_is_revoked_for_the_next_question(house: House, esims: list[Esim]) -> None:
    key_id, secret = await a_key(house.db)
    by_key = ByKey(house)
    await by_key.esim(secret, esims[0].id)
    async with house.db.begin() as connection:
        await revoke_key(connection, key_id, actor="test")
    with pytest.raises(Unauthenticated):
        await by_key.esim(secret, esims[0].id)
    with pytest.raises(Unauthenticated):
        await by_key.standing(secret, esims[0].order_id)


@pytest.mark.without_pgbouncer  # which hides that its sessions have ended
async def test_all_hear_that_the_database_is_away(house: House, esims: list[Esim], direct_url: str) -> None:
    _, secret = await a_key(house.db)
    by_key = ByKey(house)
    await by_key.esim(secret, esims[0].id)
    with psycopg.connect(direct_url, autocommit=True) as another:
        another.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    told = await asyncio.gather(*(by_key.esim(secret, esims[0].id) for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in told] == [DatabaseUnavailable] * 5
    assert await by_key.esim(secret, esims[0].id) == esims[0]
