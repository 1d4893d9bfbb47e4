"""POST /api/esims/{id}/resend."""

from typing import Any

import pytest
from sqlalchemy import text

from app.services.esims.resend import MOST_A_DAY
from tests.api.serving import Shop
from tests.builders import a_key


async def an_esim(shop: Shop) -> dict[str, Any]:
    """A provisioned one."""
    order = await shop.ordered()
    return dict((await shop.activate(order["id"])).json())


async def test_the_message_is_written_down_to_be_sent_and_how_many_more_there_may_be_is_told(shop: Shop) -> None:
    esim = await an_esim(shop)
    reply = await shop.call("POST", f"/api/esims/{esim['id']}/resend")
    assert reply.status == 202
    shown = reply.json()
    assert shown == {"esim_id": esim["id"], "mail_id": shown["mail_id"], "left_today": MOST_A_DAY - 1}
    async with shop.db.read() as connection:
        query = text("SELECT kind, number FROM outgoing_mails WHERE id = :id")
        row = (await connection.execute(query, {"id": shown["mail_id"]})).one()
    assert tuple(row) == ("resend", 1)


async def test_too_many_a_day_are_told_when_to_ask_again(shop: Shop) -> None:
    esim = await an_esim(shop)
    for _ in range(MOST_A_DAY):
        assert (await shop.call("POST", f"/api/esims/{esim['id']}/resend")).status == 202
    reply = await shop.call("POST", f"/api/esims/{esim['id']}/resend")
    assert reply.problem == (429, "rate-limited")
    assert 0 < int(reply.headers["Retry-After"]) <= 24 * 3600
    assert reply.json()["retryable"] is True


async def test_of_an_esim_that_is_not_provisioned_there_is_nothing_to_send(shop: Shop) -> None:
    order = await shop.ordered()
    reply = await shop.call("POST", f"/api/esims/{order['esim']['id']}/resend")
    assert reply.problem == (409, "not-provisioned")


async def test_one_that_is_not_there_is_not_found(shop: Shop) -> None:
    assert (await shop.call("POST", "/api/esims/999999999/resend")).problem == (404, "not-found")


async def test_a_key_without_the_scope_may_not(shop: Shop) -> None:
    esim = await an_esim(shop)
    _, secret = await a_key(shop.db, "orders")
    headers = {"Authorization": f"Bearer {secret}"}
    reply = await shop.call("POST", f"/api/esims/{esim['id']}/resend", headers=headers)
    assert reply.problem == (403, "forbidden")


@pytest.mark.parametrize("body", [b'{"to": "other@example.com"}', b"to=other@example.com", b"[]"])
async def test_another_address_is_not_taken_for_granted(shop: Shop, body: bytes) -> None:
    order = await shop.ordered()
    esim = (await shop.activate(order["id"])).json()
    reply = await shop.post(f"/api/esims/{esim['id']}/resend", body)
    assert reply.problem == (422, "validation-failed")
    assert (await shop.post(f"/api/esims/{esim['id']}/resend", b"{}")).status == 202
