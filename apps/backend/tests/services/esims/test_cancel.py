"""An order is cancelled only where nothing was, is being or may have been issued for it."""

import pytest
from sqlalchemy import text

from app.audit import Tag
from app.errors import NotFound
from app.house import House
from app.models.esims import PROFILE_STATUSES
from app.services.esims.cancel import cancel_unissued
from app.services.esims.errors import OrderNotPaid
from tests.builders import an_order
from tests.services.esims.conftest import MakeActivations, on_file
from tests.stand_in import StandIn


async def cancelled(house: House, order_id: int) -> bool:
    async with house.db.begin() as connection:
        return await cancel_unissued(connection, order_id, actor="cli:eva", reason="nothing was issued")


@pytest.mark.parametrize("status", [status for status in PROFILE_STATUSES if status != "provisioned"])
async def test_only_what_is_pending_or_refused_is_cancelled(house: House, status: str) -> None:
    order_id = await an_order(house.db)
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE esim_profiles SET status = :status"), {"status": status})
    is_cancelled = await cancelled(house, order_id)
    assert is_cancelled == (status in {"pending", "refused"})
    filed = await on_file(house, order_id)
    assert filed.profile.status == ("cancelled" if is_cancelled else status)
    assert (Tag.ORDER_CANCELLED.value in await tags(house)) == is_cancelled


async def tags(house: House) -> list[str]:
    async with house.db.read() as connection:
        return list(await connection.scalars(text("SELECT tag FROM audit_log")))


async def test_what_was_bought_is_not_cancelled(house: House, make_activations: MakeActivations) -> None:
    order_id = await an_order(house.db)
    await make_activations().activate(order_id, actor="key:1")
    assert not await cancelled(house, order_id)


@pytest.mark.parametrize("status", ["cancelled", "refunded"])
async def test_an_order_that_is_not_paid_any_more_is_left_alone(house: House, status: str) -> None:
    assert not await cancelled(house, await an_order(house.db, status=status))


async def test_a_cancelled_order_is_not_activated(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    order_id = await an_order(house.db)
    assert await cancelled(house, order_id)
    with pytest.raises(OrderNotPaid):
        await make_activations().activate(order_id, actor="key:1")
    assert supplier.request_count == 0


async def test_an_order_that_there_is_not_is_not_found(house: House) -> None:
    with pytest.raises(NotFound):
        await cancelled(house, 1)
