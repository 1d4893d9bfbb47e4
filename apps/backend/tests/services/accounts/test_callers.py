"""Who is asking is one question to the database, for keys as it was; and what is a traveller's is found by an index."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import NotFound, RateLimited
from app.house import House
from app.services.accounts.callers import Caller, authenticate, bearer_of
from app.services.accounts.keys import Forbidden, KeyCaller, Unauthenticated
from app.services.accounts.sessions import SignedIn
from app.services.esims.esim import esim_by_id, esim_by_order, list_esims
from app.services.orders.show import order_by_id, orders_before
from tests.builders import a_key, a_session
from tests.services.accounts.conftest import ANA, ordered
from tests.statements import statements


async def test_a_key_costs_one_question_and_with_a_limit_one_more(house: House) -> None:
    _, secret = await a_key(house.db)
    async with house.db.read() as connection:
        await authenticate(connection, house.vault, secret, key_rate_limit=0)  # whose use is noted then
        for limit, asked in ((0, 1), (100, 2)):
            with statements(house.db) as seen:
                await authenticate(connection, house.vault, secret, key_rate_limit=limit)
            assert len(seen) == asked


async def test_a_session_costs_one_question(house: House) -> None:
    token = await a_session(house.db)
    async with house.db.read() as connection:
        with statements(house.db) as seen:
            caller = await authenticate(connection, house.vault, token, key_rate_limit=100)
    assert (caller.owner, len(seen)) == (ANA, 1)


async def test_what_a_key_looks_at_is_asked_for_as_before(house: House) -> None:
    order_id = await ordered(house)
    async with house.db.read() as connection:
        with statements(house.db) as seen:
            await order_by_id(connection, order_id)
            await esim_by_id(connection, house.vault, (await esim_by_order(connection, house.vault, order_id)).id)
            await orders_before(connection, 10, 10)
            await list_esims(connection, house.vault)
    assert len(seen) == 5
    assert not [statement for statement in seen if "lower(" in statement]


async def test_the_limit_is_each_keys_own(house: House) -> None:
    _, one = await a_key(house.db)
    _, other = await a_key(house.db)

    async def asked_again_and_again(connection: AsyncConnection) -> None:
        for _ in range(100):  # of which a slow machine may let some pass
            await authenticate(connection, house.vault, one, key_rate_limit=1)

    async with house.db.read() as connection:
        with pytest.raises(RateLimited) as refused:
            await asked_again_and_again(connection)
        assert refused.value.retry_after_s == 1
        await authenticate(connection, house.vault, other, key_rate_limit=1)


@pytest.mark.parametrize("secret", [None, "", "tribi_", "tribi_session_", "x" * 5000, "tribi_€"])
async def test_what_nobody_has_is_nobodys(house: House, secret: str | None) -> None:
    async with house.db.read() as connection:
        with pytest.raises(Unauthenticated):
            await authenticate(connection, house.vault, secret, key_rate_limit=0)


async def test_what_is_too_long_or_no_ascii_is_not_even_asked_for(house: House) -> None:
    async with house.db.read() as connection:
        for prefix, most in (("tribi_", 200), ("tribi_session_", 100)):
            for secret, questions in (
                (prefix.ljust(most, "x"), 1),
                (prefix.ljust(most + 1, "x"), 0),
                (f"{prefix}é", 0),
                (f"{prefix}\ud800", 0),  # which has no UTF-8
            ):
                with statements(house.db) as seen, pytest.raises(Unauthenticated):
                    await authenticate(connection, house.vault, secret, key_rate_limit=100)
                assert len(seen) == questions, ascii(secret)


A_SHOP = KeyCaller(7, frozenset({"orders"}))
A_HELPDESK = KeyCaller(8, frozenset({"esims", "webhooks"}))
A_TRAVELLER = SignedIn(1, 2, ANA)
NO_TRAVELLER = "Only a service key may do that; this is a traveller's session."


@pytest.mark.parametrize(
    ("caller", "scope", "refusal"),
    [
        (A_SHOP, "orders", None),
        (A_SHOP, "esims", "This service key lacks the scope `esims`. Use a key made with it."),
        (A_SHOP, "webhooks", "This service key lacks the scope `webhooks`. Use a key made with it."),
        (A_HELPDESK, "orders", "This service key lacks the scope `orders`. Use a key made with it."),
        (A_HELPDESK, "esims", None),
        (A_HELPDESK, "webhooks", None),
        (A_TRAVELLER, "orders", NO_TRAVELLER),
        (A_TRAVELLER, "esims", None),
        (A_TRAVELLER, "webhooks", NO_TRAVELLER),
    ],
)
def test_who_may_do_what(caller: Caller, scope: str, refusal: str | None) -> None:
    if refusal is None:
        caller.require(scope)
        return
    with pytest.raises(Forbidden) as refused:
        caller.require(scope)
    assert refused.value.public_message == refusal


async def test_a_key_may_do_what_it_was_made_for(house: House) -> None:
    key_id, secret = await a_key(house.db, "webhooks", "esims")
    async with house.db.read() as connection:
        found = await authenticate(connection, house.vault, secret, key_rate_limit=0)
    assert found == KeyCaller(key_id, frozenset({"esims", "webhooks"}))


@pytest.mark.parametrize(
    ("authorization", "secret"),
    [("Bearer x", "x"), ("bearer  x ", "x"), ("Basic x", None), ("Bearer", None), ("Bearer ", None), (None, None)],
)
def test_a_secret_travels_as_a_bearer(authorization: str | None, secret: str | None) -> None:
    assert bearer_of(authorization) == secret


async def test_an_order_is_whose_address_it_has_in_whatever_letters(house: House) -> None:
    mine = [await ordered(house, "Ana@example.com"), await ordered(house, "ana@example.com")]
    others = [await ordered(house, address) for address in ("ana@example.org", "anna@example.com", "a%a@example.com")]
    async with house.db.read() as connection:
        assert [order.id for order in await orders_before(connection, 10**6, 10, owner=ANA)] == mine[::-1]
        assert [esim.order_id for esim in await list_esims(connection, house.vault, owner=ANA)] == mine[::-1]
        for order_id in others:
            with pytest.raises(NotFound):
                await order_by_id(connection, order_id, owner=ANA)
            esim = await esim_by_order(connection, house.vault, order_id)
            with pytest.raises(NotFound):
                await esim_by_id(connection, house.vault, esim.id, owner=ANA)


async def test_a_travellers_orders_are_found_by_the_index_that_is_there_for_it(house: House) -> None:
    from app.services.orders.show import _OWN_PAGE  # the statement itself

    asked = str(_OWN_PAGE.compile(house.db._engine.sync_engine))  # noqa: SLF001 - its dialect
    values = {"owner": ANA, "before_id": 10**6, "limit": 20}
    async with house.db.begin() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        await connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        plan = await (await driver.execute(f"EXPLAIN {asked}", values)).fetchall()
    told = "\n".join(line for (line,) in plan)
    assert "ix_orders_owner" in told
    assert "Sort" not in told  # newest first comes out of it
