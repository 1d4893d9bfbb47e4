"""POST /api/esims/activate, where the provider delivers."""

import asyncio

import pytest
from multidict import CIMultiDict
from sqlalchemy import func, select, update

from app.models import EsimProfile, Order, ProvisioningAttempt
from tests.api.conftest import OpenLive, requests_for, script
from tests.api.serving import Reply, Shop, eventually
from tests.api.test_orders import ESIM_FIELDS
from tests.stand_in import StandIn

RESPOND_ASYNC = {"Prefer": "respond-async"}


def assert_is_replay(reply: Reply, first: Reply) -> None:
    assert (reply.status, reply.headers["Idempotent-Replayed"]) == (200, "true")
    assert reply.json() == first.json()


async def until_provisioned(shop: Shop, esim_id: int) -> Reply:
    async def look() -> Reply | None:
        reply = await shop.get(f"/api/esims/{esim_id}")
        return reply if reply.json()["status"] == "provisioned" else None

    return await eventually(look)


async def test_the_dry_run_gives_a_whole_test_esim(shop: Shop) -> None:
    order = await shop.ordered()
    reply = await shop.activate(order["id"])

    assert reply.status == 201
    assert "Idempotent-Replayed" not in reply.headers
    esim = reply.json()
    assert reply.headers["Location"] == f"/api/esims/{esim['id']}"
    assert set(esim) == ESIM_FIELDS
    assert esim["activation_code"] == f"LPA:1${esim['smdp_address']}${esim['matching_id']}"
    assert esim["qr_code"] == esim["activation_code"]
    assert esim["qr_png_url"].endswith(f"/api/esims/{esim['id']}/qr.png")
    assert esim["qr_svg_url"].endswith(f"/api/esims/{esim['id']}/qr.svg")
    assert esim["install"]["ios_url"].endswith(esim["activation_code"])
    assert esim["install"]["android_url"].endswith(esim["activation_code"])
    assert len(esim["iccid"]) == 19
    assert (esim["id"], esim["order_id"]) == (order["esim"]["id"], order["id"])
    assert (esim["status"], esim["plan_state"], esim["profile_state"]) == ("provisioned", "not_started", None)
    assert (esim["provider"], esim["provider_reference"]) == ("CONNECTED_YOU", f"order-{order['id']}")
    assert (esim["is_live"], esim["warnings"]) == (False, [])
    assert esim["provisioned_at"].endswith("Z")
    assert "TEST" in esim["instructions"]


async def test_local_gives_a_test_esim_without_reference_and_iccid(local_shop: Shop) -> None:
    order = await local_shop.ordered(code=None)
    reply = await local_shop.activate(order["id"])
    assert reply.status == 201
    esim = reply.json()
    assert (esim["provider"], esim["provider_reference"], esim["iccid"]) == ("LOCAL", None, None)
    assert (esim["status"], esim["is_live"]) == ("provisioned", False)
    assert esim["activation_code"].startswith("LPA:1$")


async def test_a_second_activation_gets_the_same_esim(each_shop: Shop) -> None:
    shop, order = each_shop, await each_shop.ordered()
    first = await shop.activate(order["id"])
    assert first.status == 201
    assert_is_replay(await shop.activate(order["id"]), first)
    assert (await shop.get(f"/api/esims/{order['esim']['id']}")).json() == first.json()
    assert (await shop.get(f"/api/orders/{order['id']}")).json()["esim"] == first.json()


async def test_who_prefers_not_to_wait_for_what_is_there_gets_it(each_shop: Shop) -> None:
    shop, order = each_shop, await each_shop.ordered()
    first = await shop.activate(order["id"])
    assert_is_replay(await shop.activate(order["id"], headers=RESPOND_ASYNC), first)


async def test_asked_for_at_once_by_many_one_is_first_and_one_is_bought(live_shop: Shop, supplier: StandIn) -> None:
    order = await live_shop.ordered()
    script(supplier, "hold", order)
    calls = [asyncio.create_task(live_shop.activate(order["id"])) for _ in range(12)]
    await supplier.wait_until_held(1)
    supplier.release()
    replies = await asyncio.gather(*calls)

    [first] = [reply for reply in replies if reply.status == 201]
    for reply in replies:
        if reply is not first:
            assert_is_replay(reply, first)
    assert requests_for(supplier, order) == 1
    [issued] = supplier.issued_for(f"order-{order['id']}")
    assert first.json()["activation_code"] == issued.activation_code
    assert first.json()["is_live"] is True


@pytest.mark.parametrize(
    "prefer", ["respond-async", "Respond-Async", "wait=10, respond-async", 'respond-async; why="fast"']
)
async def test_who_prefers_not_to_wait_gets_a_202_once_the_intent_is_on_file(
    live_shop: Shop, supplier: StandIn, prefer: str
) -> None:
    order = await live_shop.ordered()
    script(supplier, "hold", order)
    reply = await live_shop.activate(order["id"], headers={"Prefer": prefer})

    assert reply.status == 202
    assert reply.headers["Location"] == f"/api/esims/{order['esim']['id']}"
    assert int(reply.headers["Retry-After"]) > 0
    assert reply.headers["Preference-Applied"] == "respond-async"
    assert "Idempotent-Replayed" not in reply.headers
    assert reply.json() == order["esim"] | {"status": "provisioning", "is_live": True}
    async with live_shop.db.read() as connection:
        of_this = select(func.count()).where(ProvisioningAttempt.profile_id == order["esim"]["id"])
        assert await connection.scalar(of_this) == 1

    await supplier.wait_until_held(1)
    waiting = asyncio.create_task(live_shop.activate(order["id"]))
    supplier.release()
    done = await until_provisioned(live_shop, order["esim"]["id"])
    assert (await waiting).json() == done.json()
    assert requests_for(supplier, order) == 1


async def test_of_two_prefer_headers_both_count(live_shop: Shop, supplier: StandIn) -> None:
    order = await live_shop.ordered()
    script(supplier, "hold", order)
    headers = CIMultiDict([("Prefer", "wait=1"), ("Prefer", "respond-async")])
    assert (await live_shop.activate(order["id"], headers=headers)).status == 202
    await supplier.wait_until_held(1)
    supplier.release()


async def test_who_has_waited_long_enough_gets_a_202_and_the_work_goes_on(
    open_live: OpenLive, own_supplier: StandIn
) -> None:
    supplier, shop = own_supplier, await open_live(activation_wait_seconds=0.05)
    order = await shop.ordered()
    script(supplier, "hold", order)
    reply = await shop.activate(order["id"])
    assert reply.status == 202
    assert reply.headers["Location"] == f"/api/esims/{order['esim']['id']}"
    assert "Preference-Applied" not in reply.headers
    assert int(reply.headers["Retry-After"]) > 0
    assert reply.json()["status"] == "provisioning"
    await supplier.wait_until_held(1)
    supplier.release()
    await until_provisioned(shop, order["esim"]["id"])
    assert requests_for(supplier, order) == 1


async def test_the_work_goes_on_when_the_client_hangs_up(live_shop: Shop, supplier: StandIn) -> None:
    order = await live_shop.ordered()
    script(supplier, "hold", order)
    call = asyncio.create_task(live_shop.activate(order["id"]))
    await supplier.wait_until_held(1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    supplier.release()
    done = await until_provisioned(live_shop, order["esim"]["id"])
    assert_is_replay(await live_shop.activate(order["id"]), done)
    assert requests_for(supplier, order) == 1


async def test_what_is_odd_about_an_answer_is_kept_and_flagged(live_shop: Shop, supplier: StandIn) -> None:
    order = await live_shop.ordered()
    script(supplier, "code_sample", order)
    esim = (await live_shop.activate(order["id"])).json()
    assert (esim["status"], esim["activation_code"]) == ("provisioned", "LPA:1$XYZ")
    assert esim["warnings"] != []


@pytest.mark.parametrize(
    "fault",
    ["code_html", "code_nul", "code_surrogate", "code_rtl", "code_very_long", "code_emoji", "instructions_long",
     "qr_picture", "iccid_html", "iccid_long"],
)  # fmt: skip
async def test_a_strange_answer_can_be_shown(live_shop: Shop, supplier: StandIn, fault: str) -> None:
    order = await live_shop.ordered()
    script(supplier, fault, order)
    reply = await live_shop.activate(order["id"])
    assert reply.status in {201, 502}
    shown = await live_shop.get(f"/api/esims/{order['esim']['id']}")
    listed = await live_shop.get("/api/orders?limit=1")
    assert (shown.status, listed.status) == (200, 200)
    assert listed.json()["items"][0]["esim"] == shown.json()
    for kind in ("png", "svg"):
        picture = await live_shop.get(f"/api/esims/{order['esim']['id']}/qr.{kind}")
        assert picture.status in {200, 404}


@pytest.mark.parametrize("status", ["cancelled", "refunded"])
async def test_an_order_that_is_not_paid_is_not_activated(shop: Shop, status: str) -> None:
    order = await shop.ordered()
    async with shop.db.begin() as connection:
        await connection.execute(update(Order).where(Order.id == order["id"]).values(status=status))
    assert (await shop.activate(order["id"])).problem == (409, "order-not-paid")
    assert (await shop.get(f"/api/orders/{order['id']}")).json() == order | {"status": status}


async def test_a_cancelled_esim_is_not_activated(shop: Shop) -> None:
    order = await shop.ordered()
    async with shop.db.begin() as connection:
        await connection.execute(
            update(EsimProfile).where(EsimProfile.order_id == order["id"]).values(status="cancelled")
        )
    assert (await shop.activate(order["id"])).problem == (409, "order-not-paid")


async def test_an_order_that_does_not_exist_is_not_activated(shop: Shop) -> None:
    assert (await shop.activate(10**12)).problem == (404, "not-found")
