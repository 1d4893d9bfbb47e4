"""The message again: as a new one, seldom enough, and to an address that was corrected."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from app.errors import NotFound, RateLimited
from app.house import House
from app.services.esims.resend import MOST_A_DAY, NotProvisioned, resend_instructions
from app.services.orders.page_links import page_links, page_token_of, withdraw_page
from tests.services.esims.test_thresholds import an_esim_id


@pytest.fixture
async def esim_id(house: House) -> int:
    """Provisioned, as far as this act looks."""
    esim_id = await an_esim_id(house)
    async with house.db.begin() as connection:
        await connection.execute(
            text("UPDATE esim_profiles SET status = 'provisioned', provisioned_at = now(), activation_code = 'sealed'")
        )
    return esim_id


async def rows(house: House, statement: str) -> list[Any]:
    async with house.db.read() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


async def test_each_is_a_message_of_its_own_with_a_job_and_on_the_audit_trail(house: House, esim_id: int) -> None:
    first = await resend_instructions(house, esim_id, actor="key:1")
    second = await resend_instructions(house, esim_id, actor="key:1")
    assert (first.number, first.left_today) == (1, MOST_A_DAY - 1)
    assert (second.number, second.left_today) == (2, MOST_A_DAY - 2)
    assert await rows(house, "SELECT args ->> 'mail_id' FROM procrastinate_jobs ORDER BY id") == [
        (str(first.mail_id),),
        (str(second.mail_id),),
    ]
    assert await rows(
        house, "SELECT actor, details ->> 'number' FROM audit_log WHERE tag = 'esims.resent' ORDER BY id"
    ) == [
        ("key:1", "1"),
        ("key:1", "2"),
    ]


async def test_five_a_day_are_enough_and_the_sixth_is_told_when(house: House, esim_id: int) -> None:
    asked = await asyncio.gather(
        *(resend_instructions(house, esim_id, actor="key:1") for _ in range(MOST_A_DAY + 2)), return_exceptions=True
    )
    refused = [error for error in asked if isinstance(error, RateLimited)]
    assert len(refused) == 2
    assert all(86_390 < (error.retry_after_s or 0) <= 86_400 for error in refused)
    async with house.db.begin() as connection:
        await connection.execute(
            text("UPDATE outgoing_mails SET created_at = now() - interval '23 hours 59 minutes' WHERE number = 1")
        )
    with pytest.raises(RateLimited) as last:
        await resend_instructions(house, esim_id, actor="key:1")
    assert 50 < (last.value.retry_after_s or 0) <= 60
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE outgoing_mails SET created_at = now() - interval '25 hours'"))
    assert (await resend_instructions(house, esim_id, actor="key:1")).left_today == MOST_A_DAY - 1


async def test_support_is_not_bound_by_it(house: House, esim_id: int) -> None:
    for _ in range(MOST_A_DAY + 1):
        await resend_instructions(house, esim_id, actor="cli:eva", is_limited=False)


async def test_a_corrected_address_is_the_orders_from_now_on_and_not_on_the_audit_trail(
    house: House, esim_id: int
) -> None:
    async with house.db.begin() as connection:
        await page_token_of(connection, page_links(house), esim_id, actor="test")
    [before] = await rows(house, "SELECT page_token_hash FROM esim_profiles")
    await resend_instructions(house, esim_id, actor="cli:eva", to="anna@example.com")
    assert await rows(house, "SELECT customer_email FROM orders") == [("anna@example.com",)]
    assert await rows(house, "SELECT page_token_hash FROM esim_profiles") not in ([before], [(None,)])
    trail = await rows(
        house, "SELECT tag, actor, details::text FROM audit_log WHERE subject_type IN ('orders', 'esim_profiles')"
    )
    assert ("orders.address_corrected", "cli:eva", "{}") in trail
    assert "anna" not in str(trail)


async def test_a_link_that_was_withdrawn_stays_so(house: House, esim_id: int) -> None:
    async with house.db.begin() as connection:
        await withdraw_page(connection, esim_id, actor="test")
    await resend_instructions(house, esim_id, actor="cli:eva", to="anna@example.com")
    assert await rows(house, "SELECT page_token FROM esim_profiles") == [(None,)]


async def test_what_is_refused_changes_nothing(house: House) -> None:
    pending = await an_esim_id(house)
    with pytest.raises(NotProvisioned):
        await resend_instructions(house, pending, actor="cli:eva", to="anna@example.com")
    with pytest.raises(NotFound):
        await resend_instructions(house, pending + 1, actor="cli:eva", to="anna@example.com")
    assert await rows(house, "SELECT customer_email FROM orders") == [("ana@example.com",)]
    assert await rows(house, "SELECT id FROM outgoing_mails") == []
