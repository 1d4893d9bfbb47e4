"""Settling many unknown outcomes by a file: each for itself, and again without harm."""

import pytest
from sqlalchemy import text

from app.house import House
from app.services.esim_providers import SupplierOutcomeUnknown
from app.services.esims.activate import Activations
from app.services.esims.esim import esim_by_id
from app.services.esims.settle_many import Ending, Settled, settle_many
from app.services.esims.settlements import read_settlements
from tests.builders import an_order
from tests.services.esims.conftest import on_file
from tests.stand_in import StandIn

ICCID = "8944500102198304826"


async def unknown(house: House, activations: Activations, supplier: StandIn) -> tuple[int, int]:
    """An order whose provider closed the connection, its deadline passed: its id and its eSIM's."""
    supplier.script("close_before")
    order_id = await an_order(house.db)
    with pytest.raises(SupplierOutcomeUnknown):
        await activations.activate(order_id, actor="key:1")
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE provisioning_attempts SET deadline_at = now() - interval '1 second'"))
    return order_id, (await on_file(house, order_id)).profile.id


async def settled(house: House, *lines: str, name: str = "esim_id") -> list[Settled]:
    data = "\n".join([f"{name},outcome,activation_code,iccid,reason", *lines])
    given = read_settlements(data.encode())
    return [one async for one in settle_many(house.db, house.vault, given, actor="cli:eva")]


def endings(results: list[Settled]) -> list[tuple[str, str | None]]:
    return [(result.ending.value, result.status) for result in results]


async def test_each_line_settles_its_esim_and_stands_on_the_trail_with_its_reason(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    first_order, first = await unknown(house, activations, supplier)
    second_order, second = await unknown(house, activations, supplier)
    results = await settled(
        house, f"{first},issued,LPA:1$a.example$ONE,{ICCID},portal", f"{second},not-issued,,,their mail of today"
    )
    assert endings(results) == [("settled", "provisioned"), ("settled", "pending")]
    async with house.db.read() as connection:
        esim = await esim_by_id(connection, house.vault, first)
        query = text(
            "SELECT tag, actor, details->>'reason' FROM audit_log WHERE tag LIKE 'esims.resolved%' ORDER BY id"
        )
        trail = [tuple(row) for row in await connection.execute(query)]
    assert esim.activation_code is not None
    assert (esim.activation_code.text, esim.iccid) == ("LPA:1$a.example$ONE", ICCID)
    assert trail == [
        ("esims.resolved_issued", "cli:eva", "portal"),
        ("esims.resolved_not_issued", "cli:eva", "their mail of today"),
    ]
    assert (await on_file(house, first_order)).jobs == 1
    assert (await activations.activate(second_order, actor="key:1")).is_first


async def test_an_esim_may_be_named_by_its_order(house: House, activations: Activations, supplier: StandIn) -> None:
    order_id, esim_id = await unknown(house, activations, supplier)
    [result] = await settled(house, f"order-{order_id},not-issued,,,x", name="order_reference")
    assert (result.ending, result.esim_id) == (Ending.SETTLED, esim_id)


async def test_a_line_that_cannot_be_settled_says_why_and_stops_no_other(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    held_by = (await activations.activate(await an_order(house.db), actor="key:1")).esim
    assert held_by.activation_code is not None
    code, iccid = held_by.activation_code.text, held_by.iccid
    esims = [(await unknown(house, activations, supplier))[1] for _ in range(4)]
    async with house.db.begin() as connection:
        await connection.execute(
            text("UPDATE provisioning_attempts SET deadline_at = now() + interval '1 hour' WHERE profile_id = :id"),
            {"id": esims[2]},
        )
    results = await settled(
        house,
        f"{esims[0]},issued,{code},,x",
        f"{esims[1]},issued,LPA:1$a.example$ONE,{iccid},x",
        f"{esims[2]},not-issued,,,x",
        f"{held_by.id},not-issued,,,x",
        "999999,not-issued,,,x",
        f"{esims[3]},not-issued,,,x",
    )
    assert endings(results) == [
        ("failed", "unknown"),
        ("failed", "unknown"),
        ("failed", "unknown"),
        ("failed", "provisioned"),
        ("failed", None),
        ("settled", "pending"),
    ]
    reasons = [
        "another eSIM already holds an activation code",
        "another eSIM already holds an ICCID",
        "hasn't passed",
        f"eSIM {held_by.id} is provisioned: only an unknown one can be settled",
        "there is no eSIM 999999",
    ]
    for result, reason in zip(results, reasons, strict=False):
        assert reason in (result.error or "")
        assert code not in (result.error or "")
        assert str(iccid) not in (result.error or "")


async def test_the_same_file_again_finds_all_settled_and_changes_nothing(
    house: House, activations: Activations, supplier: StandIn
) -> None:
    _, first = await unknown(house, activations, supplier)
    _, second = await unknown(house, activations, supplier)
    lines = (f"{first},issued,LPA:1$a.example$ONE,{ICCID},x", f"{second},not-issued,,,x")
    await settled(house, *lines)
    assert endings(await settled(house, *lines)) == [
        ("already-settled", "provisioned"),
        ("already-settled", "pending"),
    ]
    async with house.db.read() as connection:
        count = await connection.scalar(text("SELECT count(*) FROM audit_log WHERE tag LIKE 'esims.resolved%'"))
    assert count == 2


@pytest.mark.parametrize(
    "line",
    ["{id},not-issued,,,x", "{id},issued,LPA:1$a.example$OTHER,,x", "{id},issued,LPA:1$a.example$ONE,89445001,x"],
    ids=["not issued", "another code", "another ICCID"],
)
async def test_what_was_settled_another_way_is_a_failure(
    house: House, activations: Activations, supplier: StandIn, line: str
) -> None:
    _, esim_id = await unknown(house, activations, supplier)
    await settled(house, f"{esim_id},issued,LPA:1$a.example$ONE,{ICCID},x")
    assert endings(await settled(house, line.format(id=esim_id))) == [("failed", "provisioned")]


async def test_an_order_that_was_never_sent_has_not_been_settled(house: House, activations: Activations) -> None:
    esim_id = (await on_file(house, await an_order(house.db))).profile.id
    assert endings(await settled(house, f"{esim_id},not-issued,,,x")) == [("failed", "pending")]
