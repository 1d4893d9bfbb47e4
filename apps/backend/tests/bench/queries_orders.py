"""Of the register: placing, buying, looking, listing."""

import asyncio
from dataclasses import replace
from typing import Any

from app.errors import NotFound
from app.services.accounts.sessions import session_of
from app.services.esim_providers import (
    Accepted,
    Answer,
    Dedupe,
    Delivered,
    EsimProvisioningError,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
    SupplierUnreachable,
)
from app.services.esims.answer import record_answer
from app.services.esims.by_key import ByKey
from app.services.esims.cancel import cancel_unissued
from app.services.esims.circuit import Circuit
from app.services.esims.dossier import dossier_of
from app.services.esims.esim import STATUSES, esim_by_id, esim_by_order, esims_of_orders, list_esims
from app.services.esims.installing import installing_by_token
from app.services.esims.intent import Intent, declare_intent
from app.services.esims.own import check_own_activation
from app.services.esims.recover import sweep
from app.services.esims.replay import declare_replay, due_for_replay
from app.services.esims.resend import resend_instructions
from app.services.esims.resolve import resolve_issued, resolve_not_issued
from app.services.esims.settle_many import settle_many
from app.services.esims.settlements import Settlement
from app.services.esims.spend import Caps
from app.services.esims.watch import Watch
from app.services.orders.page_links import page_expiry, page_links, page_token_of, renew_page_token, withdraw_page
from app.services.orders.place import NewOrder, place_order
from app.services.orders.show import order_by_id, orders_before
from app.values.activation_code import ActivationCode
from tests.bench.crowd_rows import ORDERS_FROM, Life, page_token
from tests.bench.queries import Shop, an_iccid, query
from tests.builders import a_session

PAGE = 21
Result = Delivered | Accepted | EsimProvisioningError


@query("POST /api/orders")
async def place(shop: Shop) -> None:
    for name in ("one", "another", "one"):  # the last one is a repeat
        async with shop.house.db.begin() as connection:
            await place_order(
                connection,
                NewOrder("es-5gb-1", "ana@example.com", "Ana Traveller", f"pay-{name}"),
                idempotency_key=f"bench-{shop.crowd.now}-{name}",
                key_id=shop.crowd.keys[0],
                provider=shop.provider.name,
                code_provider=shop.provider.name,
                is_live=False,
                page_links=page_links(shop.house),
            )


@query("GET /api/orders/{id}")
async def look_at_order(shop: Shop) -> None:
    life = shop.settled()
    async with shop.house.db.read() as connection:
        for owner in (None, life.owner):
            await order_by_id(connection, life.order_id, owner=owner)
        await esim_by_order(connection, shop.house.vault, life.order_id)


@query("GET /api/orders: the first page, deep ones, a traveller's")
async def list_orders(shop: Shop) -> None:
    async with shop.house.db.read() as connection:
        for before in (2**63 - 1, shop.crowd.orders // 2 + ORDERS_FROM, ORDERS_FROM + 30):
            found = await orders_before(connection, before, PAGE)
            await esims_of_orders(connection, shop.house.vault, [order.id for order in found])
        for owner in (shop.settled().owner, "nobody@example.com"):
            await orders_before(connection, 2**63 - 1, PAGE, owner=owner)


@query("GET /api/esims/{id}, and how an order stands that a key activates")
async def look_at_esim(shop: Shop) -> None:
    life = shop.settled()
    async with shop.house.db.read() as connection:
        for owner in (None, life.owner):
            await esim_by_id(connection, shop.house.vault, life.id, owner=owner)
    by_key = ByKey(shop.house)
    await by_key.esim(shop.made["key"], life.id)
    await by_key.standing(shop.made["key"], life.order_id)


@query("the same, sixty-four at the same time")
async def look_at_many(shop: Shop) -> None:
    by_key, lives = ByKey(shop.house), [shop.settled() for _ in range(64)]
    await asyncio.gather(*(by_key.esim(shop.made["key"], life.id) for life in lives))
    await asyncio.gather(*(by_key.standing(shop.made["key"], life.order_id) for life in lives))


@query("GET /api/esims, and tribi esims list, by each status")
async def list_all_esims(shop: Shop) -> None:
    async with shop.house.db.read() as connection:
        for before in (2**63 - 1, shop.crowd.orders // 2, 30):
            await list_esims(connection, shop.house.vault, before_id=before, limit=PAGE)
        for owner in (shop.settled().owner, "nobody@example.com"):
            await list_esims(connection, shop.house.vault, limit=PAGE, owner=owner)
        for status in STATUSES:
            await list_esims(connection, shop.house.vault, limit=PAGE, status=status)


@query("tribi esims list --mail-refused", most_rows=lambda shop: 4 * shop.a_day)
async def list_undelivered(shop: Shop) -> None:
    """What was refused in the last month: a thousandth of its mails."""
    async with shop.house.db.read() as connection:
        await list_esims(connection, shop.house.vault, limit=PAGE, only_undelivered=True)


@query("tribi esims list --unfulfilled", most_rows=lambda shop: 3 * shop.crowd.stock + 1000)
async def list_unfulfilled(shop: Shop) -> None:
    """All that is open is looked at: the crowd's stock, too."""
    async with shop.house.db.read() as connection:
        await list_esims(connection, shop.house.vault, limit=PAGE, only_unfulfilled=True)


@query("GET /i/{token}")
async def install_page(shop: Shop) -> None:
    """Of one that isn't old: pages expire."""
    recent = next(number for number in shop.crowd.newest(60) if Life(shop.crowd, number).status == "provisioned")
    async with shop.house.db.read() as connection:
        assert await installing_by_token(connection, shop.house.vault, page_token(recent)) is not None
        assert await installing_by_token(connection, shop.house.vault, "a" * 32) is None


@query("tribi esims link")
async def links(shop: Shop) -> None:
    async with shop.house.db.begin() as connection:
        esim_id, of = shop.settled().id, page_links(shop.house)
        await renew_page_token(connection, of, esim_id, actor="bench")  # first: pages expire
        await page_token_of(connection, of, esim_id, actor="bench")
        await page_expiry(connection, esim_id)
        await withdraw_page(connection, esim_id, actor="bench")


@query("POST /api/esims/activate: the first time, again, and while another process does it")
async def activate(shop: Shop) -> None:
    order_id = shop.waiting()
    assert (await shop.activations.activate(order_id, actor=shop.actor)).is_first
    assert not (await shop.activations.activate(order_id, actor=shop.actor)).is_first
    intent = await declared(shop)
    waiting = asyncio.create_task(shop.activations.activate(intent.order_id, actor=shop.actor))
    await asyncio.sleep(0.3)
    await answered(shop, intent, delivered(shop))
    await waiting


@query("POST /api/esims/activate, by a traveller")
async def activate_own(shop: Shop) -> None:
    life = Life(shop.crowd, shop.waiting() - ORDERS_FROM)
    async with shop.house.db.begin() as connection:
        who = await session_of(connection, await a_session(shop.house.db, life.owner))
    await check_own_activation(shop.house, who, life.order_id)


@query("an activation against a cap", most_rows=lambda shop: 2 * shop.a_day)
async def activate_capped(shop: Shop) -> None:
    """Counts as many attempts as the caps allow."""
    await answered(shop, await declared(shop, caps=Caps(10_000_000, 50_000_000)), delivered(shop))


@query("the answers to an activation")
async def answers(shop: Shop) -> None:
    said = Answer(500, b"{}")
    results: tuple[Result, ...] = (
        SupplierRefused("no", answer=said),
        SupplierUnreachable("no"),
        SupplierOutcomeUnknown("hm", answer=said),
        Accepted(said, "theirs-1"),
    )
    for result in results:
        await answered(shop, await declared(shop), result)
    held = await declared(shop)
    await answered(shop, held, SupplierRateLimited("later", answer=said, retry_after_s=1))
    await asyncio.sleep(1)  # nothing is sent before
    circuit = Circuit(shop.house.db, shop.provider, 3)
    circuit.is_heeded = True
    for _ in range(3):
        await circuit.heard(held.circuit, SupplierUnreachable("no"))
    async with shop.house.db.read() as connection:
        assert await circuit.pause(connection) is not None
    async with shop.house.db.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM provider_states")


@query("an answer that comes after the sweep, twice, and to an attempt that is forgotten")
async def late_answers(shop: Shop) -> None:
    late, refused, held = [await declared(shop, timeout_s=-30) for _ in range(3)]
    await sweep(shop.house.db)
    await answered(shop, late, delivered(shop))
    await answered(shop, late, delivered(shop))
    for _ in range(2):
        await answered(shop, refused, SupplierRefused("no", answer=Answer(402, b"{}")))
    await answered(shop, held, SupplierRateLimited("later", answer=Answer(429, b"{}"), retry_after_s=1))
    await asyncio.sleep(1)  # nothing is sent before
    forgotten = await declared(shop)
    await answered(shop, forgotten, SupplierUnreachable("no"))
    await answered(shop, replace(forgotten, attempt_id=10**15), SupplierRefused("no", answer=Answer(402, b"{}")))


@query("the recovery sweep")
async def recovery_sweep(shop: Shop) -> None:
    await declared(shop, timeout_s=-30)
    assert await sweep(shop.house.db) == 1


@query("the replays that are due, and one by hand", most_rows=lambda _: 1500)
async def replays(shop: Shop) -> None:
    """All unknown ones are looked at, each with its attempts."""
    sheet = replace(shop.provider.capabilities, dedupe=Dedupe.REPLAY, replay_window_s=86400)
    provider: Any = replace(shop.provider, capabilities=sheet)  # type: ignore[type-var]  # ConnectedYou, a dataclass
    intent = await declared(shop)
    await answered(shop, intent, SupplierOutcomeUnknown("hm"))
    async with shop.house.db.begin() as connection:
        assert intent.order_id in await due_for_replay(connection, provider)
        again = await declare_replay(
            connection, shop.house.vault, provider, intent.order_id, actor="bench", timeout_s=9, is_by_hand=True, last=None,
            heeds_circuit=False, caps=None,
        )  # fmt: skip
    assert isinstance(again, Intent)
    await answered(shop, again, SupplierOutcomeUnknown("hm"))


@query("waiting for another process")
async def watch(shop: Shop) -> None:
    watching = Watch(shop.house.db)
    await watching.until_closed(shop.settled().id * 2)
    await watching.close()


@query("tribi esims show")
async def dossier(shop: Shop) -> None:
    async with shop.house.db.begin() as connection:
        await dossier_of(connection, shop.house.vault, shop.settled().id)


@query("tribi esims resolve, one and by a file")
async def resolve(shop: Shop) -> None:
    db, vault = shop.house.db, shop.house.vault
    await resolve_not_issued(db, vault, await unknown(shop), reason="they say so", actor="bench")
    await resolve_issued(
        db, vault, await unknown(shop), code=a_code(shop), iccid=an_iccid(shop), reason="they say so", actor="bench"
    )
    esim_id, settled = await unknown(shop), shop.settled()
    lines = [
        Settlement(2, esim_id, None, None, None, "they say so"),
        Settlement(3, esim_id, None, None, None, "they say so"),
        Settlement(4, None, settled.order_id, ActivationCode.read(settled.code), None, "they say so"),
    ]
    async for _ in settle_many(db, vault, lines, actor="bench"):
        pass


@query("cancelling, as the live doctor does")
async def cancel(shop: Shop) -> None:
    async with shop.house.db.begin() as connection:
        await cancel_unissued(connection, shop.waiting(), actor="bench", reason="for the bench")
        try:
            await cancel_unissued(connection, 10**12, actor="bench", reason="for the bench")
        except NotFound:
            return


@query("POST /api/esims/{id}/resend, and to a corrected address")
async def resend(shop: Shop) -> None:
    life = shop.settled()
    await resend_instructions(shop.house, life.id, actor="bench")
    await resend_instructions(shop.house, life.id, actor="bench", to="ana@example.org")


def a_code(shop: Shop) -> ActivationCode:
    return ActivationCode.make("SMDP.EXAMPLE.COM", f"BENCH-{an_iccid(shop).text}")


def delivered(shop: Shop) -> Delivered:
    return Delivered(a_code(shop), Answer(201, b"{}"), iccid=an_iccid(shop))


async def declared(shop: Shop, *, timeout_s: float = 30, caps: Caps | None = None) -> Intent:
    """An attempt of an eSIM that waited, on file and open."""
    async with shop.house.db.begin() as connection:
        intent = await declare_intent(
            connection,
            shop.house.vault,
            shop.provider,
            shop.waiting(),
            actor=shop.actor,
            timeout_s=timeout_s,
            caps=caps,
        )
    assert isinstance(intent, Intent)
    return intent


async def unknown(shop: Shop) -> int:
    """An eSIM of which nobody knows whether it was bought, and whose deadline is over."""
    intent = await declared(shop, timeout_s=-30)
    await answered(shop, intent, SupplierOutcomeUnknown("hm"))
    return intent.profile_id


async def answered(shop: Shop, intent: Intent, result: Result) -> None:
    await record_answer(shop.house.db, shop.house.vault, intent, shop.provider.name, result)
