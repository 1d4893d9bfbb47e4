"""The link to an install page: random, found by its hash alone, sealed, expiring, and withdrawn for good."""

import hashlib
import re
from typing import Any

import pytest
from sqlalchemy import select, text, update

from app.errors import NotFound
from app.house import House
from app.models import AuditEntry, EsimProfile
from app.services.esims.esim import esim_by_id
from app.services.esims.installing import installing_by_token
from app.services.orders.page_links import (
    NoPageLink,
    PageLinks,
    page_expiry,
    page_links,
    page_token_of,
    renew_page_token,
    token_hash,
    withdraw_page,
)
from app.services.orders.place import NewOrder, place_order
from app.vault import Place
from tests.builders import a_key, a_plan, an_order


async def placed(house: House) -> int:
    """An order as the API places it; the id of its eSIM."""
    sku = await a_plan(house.db, validity_days=30)
    key_id, _ = await a_key(house.db)
    async with house.db.begin() as connection:
        order = await place_order(
            connection,
            NewOrder(sku, "ana@example.com", "Ana Traveller", "pay-1"),
            idempotency_key=sku,
            key_id=key_id,
            provider="CONNECTED_YOU",
            code_provider="CONNECTED_YOU",
            is_live=False,
            page_links=page_links(house),
        )
    return int((await row_of(house, EsimProfile.order_id == order.order_id)).id)


async def row_of(house: House, condition: Any) -> Any:
    async with house.db.read() as connection:
        return (await connection.execute(select(EsimProfile.__table__).where(condition))).one()


async def token_of(house: House, esim_id: int) -> str:
    async with house.db.begin() as connection:
        return await page_token_of(connection, page_links(house), esim_id, actor="cli:eva")


async def shown(house: House, esim_id: int) -> str | None:
    """As all who may see the eSIM are shown it."""
    async with house.db.read() as connection:
        return (await esim_by_id(connection, house.vault, esim_id)).page_token


async def finds(house: House, token: str) -> int | None:
    async with house.db.read() as connection:
        found = await installing_by_token(connection, house.vault, token)
    return None if found is None else found.esim.id


async def expire(house: House, esim_id: int) -> None:
    async with house.db.begin() as connection:
        await connection.execute(
            update(EsimProfile).where(EsimProfile.id == esim_id).values(page_expires_at=text("now()"))
        )


async def tags(house: House, esim_id: int) -> list[tuple[str, str]]:
    async with house.db.read() as connection:
        rows = await connection.execute(
            select(AuditEntry.tag, AuditEntry.actor)
            .where(AuditEntry.subject_type == "esim_profiles", AuditEntry.subject_id == esim_id)
            .order_by(AuditEntry.id)
        )
        return [(row.tag, row.actor) for row in rows]


async def test_a_new_order_has_its_link_and_it_finds_the_esim(house: House) -> None:
    esim_id, other_id = await placed(house), await placed(house)
    token = await token_of(house, esim_id)
    assert await shown(house, esim_id) == token
    assert await finds(house, token) == esim_id
    assert await finds(house, await token_of(house, other_id)) == other_id
    assert await tags(house, esim_id) == []


def test_tokens_have_160_random_bits_in_letters_that_survive_everything(house: House) -> None:
    links = page_links(house)
    tokens = {
        house.vault.open_text(links.new(1, 30)["page_token"], Place("esim_profiles", "page_token", 1)) or ""
        for _ in range(500)
    }
    assert len(tokens) == 500
    assert all(re.fullmatch("[a-z2-7]{32}", token) for token in tokens)
    for place in range(32):
        assert len({token[place] for token in tokens}) > 25  # of 32 letters; a place that repeats has fewer bits


async def test_the_database_has_the_token_only_hashed_and_sealed(house: House) -> None:
    esim_id = await placed(house)
    token = await token_of(house, esim_id)
    row = await row_of(house, EsimProfile.id == esim_id)
    assert row.page_token_hash == hashlib.sha256(token.encode()).digest()
    assert token.encode() not in row.page_token
    assert house.keyring.open(row.page_token, Place("esim_profiles", "page_token", esim_id)) == token.encode()


async def test_it_works_for_the_plans_days_and_some_more(house: House) -> None:
    esim_id = await placed(house)
    async with house.db.read() as connection:
        row = (
            await connection.execute(
                text("SELECT page_expires_at - created_at AS lives FROM esim_profiles WHERE id = :id"), {"id": esim_id}
            )
        ).one()
    assert row.lives.days == 30 + house.settings.install_link_days
    await token_of(house, esim_id)


async def test_what_has_expired_finds_nothing_and_is_shown_to_nobody(house: House) -> None:
    esim_id = await placed(house)
    token = await token_of(house, esim_id)
    await expire(house, esim_id)
    assert await finds(house, token) is None
    assert await shown(house, esim_id) is None
    with pytest.raises(NoPageLink, match=f"has expired .*tribi esims link {esim_id} --renew"):
        await token_of(house, esim_id)


async def test_what_was_withdrawn_is_forgotten_and_no_new_one_is_made_by_itself(house: House) -> None:
    esim_id = await placed(house)
    token = await token_of(house, esim_id)
    for _ in range(2):
        async with house.db.begin() as connection:
            await withdraw_page(connection, esim_id, actor="cli:eva")
    assert await finds(house, token) is None
    assert await shown(house, esim_id) is None
    row = await row_of(house, EsimProfile.id == esim_id)
    assert (row.page_token, row.page_token_hash) == (None, None)
    with pytest.raises(NoPageLink, match="was withdrawn"):
        await token_of(house, esim_id)
    assert await tags(house, esim_id) == [("esims.page_withdrawn", "cli:eva")]


@pytest.mark.parametrize("before", ["valid", "expired", "withdrawn"])
async def test_a_new_link_replaces_the_old_one(house: House, before: str) -> None:
    esim_id = await placed(house)
    old = await token_of(house, esim_id)
    async with house.db.begin() as connection:
        if before == "withdrawn":
            await withdraw_page(connection, esim_id, actor="cli:eva")
    if before == "expired":
        await expire(house, esim_id)
    async with house.db.begin() as connection:
        new = await renew_page_token(connection, page_links(house), esim_id, actor="cli:eva")
    assert new != old
    assert (await finds(house, old), await finds(house, new)) == (None, esim_id)
    assert await token_of(house, esim_id) == new
    assert (await tags(house, esim_id))[-1] == ("esims.page_made", "cli:eva")


async def test_an_older_esim_gets_its_link_when_it_is_first_needed(house: House) -> None:
    order_id = await an_order(house.db)  # placed without, as by a release before
    esim_id = (await row_of(house, EsimProfile.order_id == order_id)).id
    assert await shown(house, esim_id) is None
    async with house.db.read() as connection:
        assert await page_expiry(connection, esim_id) is None
    token = await token_of(house, esim_id)
    assert await token_of(house, esim_id) == token
    assert await finds(house, token) == esim_id
    assert await tags(house, esim_id) == [("esims.page_made", "cli:eva")]


async def test_an_older_esim_can_be_withdrawn_before_it_has_one(house: House) -> None:
    order_id = await an_order(house.db)
    esim_id = (await row_of(house, EsimProfile.order_id == order_id)).id
    async with house.db.begin() as connection:
        await withdraw_page(connection, esim_id, actor="cli:eva")
    with pytest.raises(NoPageLink, match="was withdrawn"):
        await token_of(house, esim_id)


async def test_of_an_esim_that_is_not_there_nothing_is_done(house: House) -> None:
    links = PageLinks(house.vault, 10)
    async with house.db.begin() as connection:
        with pytest.raises(NotFound):
            await page_token_of(connection, links, 4711, actor="cli:eva")
        with pytest.raises(NotFound):
            await renew_page_token(connection, links, 4711, actor="cli:eva")
        with pytest.raises(NotFound):
            await withdraw_page(connection, 4711, actor="cli:eva")


@pytest.mark.parametrize(
    "token", ["", "a" * 31, "a" * 33, "A" * 32, "0" * 32, "a" * 31 + "\n", "ä" * 32, "../" + "a" * 29, "%61" * 10]
)
def test_what_cannot_be_a_token_is_not_looked_up(token: str) -> None:
    assert token_hash(token) is None
