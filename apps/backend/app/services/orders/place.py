"""Placing a paid order: once per `Idempotency-Key`, with the plan frozen as it is sold now."""

import hashlib
import json
from dataclasses import dataclass

from sqlalchemy import BigInteger, bindparam, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import RECORD, Tag, entry
from app.errors import TribiError, ValidationFailed
from app.held import HELD_SINCE, InstallationHeld
from app.journal import hash_of
from app.models import EsimProfile, IdempotencyKey, Order
from app.services.catalogue.plans import plan_for_sale
from app.services.orders.forgotten import FORGOTTEN_ORDER_ID, file_forgotten
from app.services.orders.page_links import PAGE_COLUMNS, PageLinks, no_page
from app.services.webhooks.events import OrderPaid
from app.services.webhooks.tell import TELLING, telling


class PlanNotMapped(TribiError):
    code = "plan-not-mapped"
    title = "The plan can't be bought at the configured provider"
    meaning = (
        "The catalogue holds no code for this plan at the eSIM provider that is configured, so it can't be sold. "
        "Choose another plan; the operator adds the code with `tribi catalogue import`."
    )
    http_status = 422


class IdempotencyKeyMissing(TribiError):
    code = "idempotency-key-missing"
    title = "An Idempotency-Key is needed"
    meaning = (
        "Placing an order needs the header `Idempotency-Key`: your own name for this order (1 to 255 visible ASCII characters), "
        "so that sending the request again can't place a second order."
    )
    http_status = 400


class IdempotencyKeyReused(TribiError):
    code = "idempotency-key-reused"
    title = "This Idempotency-Key belongs to another request"
    meaning = "An order with another body was placed under this `Idempotency-Key`. Use a new key for a new order."
    http_status = 422


class IdempotencyKeyInProgress(TribiError):
    code = "idempotency-key-in-progress"
    title = "A request with this Idempotency-Key is being worked on"
    meaning = "The first request with this `Idempotency-Key` isn't finished. Send this one again in a moment to get its answer."
    http_status = 409
    retryable = True


@dataclass(frozen=True, slots=True)
class NewOrder:
    """What a storefront asks for; every value is valid."""

    sku: str
    customer_email: str
    customer_name: str
    payment_reference: str
    customer_locale: str | None = None
    """From `read_locale`; None where the storefront doesn't say."""

    def digest(self) -> bytes:
        """SHA-256 of the canonical body: the same order, however its JSON was spelled."""
        canonical = [self.sku, self.customer_email, self.customer_name, self.payment_reference]
        if self.customer_locale is not None:  # without it the digest is what it was before there were locales
            canonical.append(self.customer_locale)
        return hashlib.sha256(json.dumps(canonical).encode()).digest()


@dataclass(frozen=True, slots=True)
class Placed:
    order_id: int
    is_replay: bool


# Held until the transaction ends, so that a request whose twin is under way is told so instead of waiting.
_CLAIM = select(
    func.pg_try_advisory_xact_lock(func.hashtextextended(bindparam("key"), 4816)).label("is_ours"),
    HELD_SINCE.label("held_since"),
    FORGOTTEN_ORDER_ID.label("forgotten_order_id"),
)
_EARLIER = select(IdempotencyKey.request_hash, IdempotencyKey.order_id).where(IdempotencyKey.key == bindparam("key"))
_PLACE = (
    insert(Order)
    .values(
        status="paid",
        plan_id=bindparam("plan_id"),
        plan_snapshot=bindparam("plan_snapshot"),
        amount_minor=bindparam("amount_minor"),
        currency=bindparam("currency"),
        customer_email=bindparam("customer_email"),
        customer_name=bindparam("customer_name"),
        customer_locale=bindparam("customer_locale"),
        payment_reference=bindparam("payment_reference"),
        placed_by_key_id=bindparam("placed_by_key_id"),
    )
    .returning(Order.id, func.nextval("esim_profiles_id_seq", type_=BigInteger).label("profile_id"))
)
_PLACE_UNDER = _PLACE.values(id=bindparam("order_id"))
_PROFILE = insert(EsimProfile).values(
    id=bindparam("profile_id"),
    order_id=bindparam("order_id"),
    provider=bindparam("provider"),
    is_live=bindparam("is_live"),
    **PAGE_COLUMNS,
)
_REMEMBER = insert(IdempotencyKey).values(
    key=bindparam("key"), request_hash=bindparam("request_hash"), order_id=bindparam("order_id")
)


_RECORD_AND_TELL = RECORD.add_cte(TELLING)


async def draw_order_id(connection: AsyncConnection) -> int:
    """A number that no other order gets."""
    order_id = await connection.scalar(select(func.nextval("orders_id_seq")))
    assert isinstance(order_id, int)  # noqa: S101 - a sequence gives a number
    return order_id


async def place_order(
    connection: AsyncConnection,
    new: NewOrder,
    *,
    idempotency_key: str,
    key_id: int,
    provider: str,
    code_provider: str | None,
    is_live: bool,
    drawn_id: int | None = None,
    page_links: PageLinks | None = None,
) -> Placed:
    """
    Args:
        idempotency_key: 1 to 255 visible ASCII characters; one space for the installation, never forgotten.
        key_id: the service key that asks.
        provider: the configured provider, which the eSIM is expected from.
        code_provider: whose code the plan needs, None where the provider needs none.
        drawn_id: the order's number, from `draw_order_id`, for who has to know it beforehand.
        page_links: makes the link to the eSIM's install page; without, it is made when it is first needed.

    Raises:
        IdempotencyKeyInProgress, IdempotencyKeyReused: nothing was placed by this request.
        ValidationFailed: there is no such plan on sale.
        PlanNotMapped: it has no code at the configured provider.
        InstallationHeld: numbers of orders may have been given before; nothing was placed.
    """
    asked = {"key": idempotency_key, "order_key": hash_of(idempotency_key)}
    claim = (await connection.execute(_CLAIM, asked)).one()
    if not claim.is_ours:
        raise IdempotencyKeyInProgress(retry_after_s=1)
    earlier = (await connection.execute(_EARLIER, {"key": idempotency_key})).one_or_none()
    if earlier is not None:
        if earlier.request_hash != new.digest():
            raise IdempotencyKeyReused
        return Placed(earlier.order_id, is_replay=True)
    if claim.held_since is not None:
        raise InstallationHeld

    sale = await plan_for_sale(connection, new.sku, code_provider)
    if sale is None:
        raise ValidationFailed(public_message=f"There is no plan with the SKU {new.sku!r} on sale.")
    if code_provider is not None and sale.external_id is None:
        raise PlanNotMapped(
            public_message=f"The plan {new.sku!r} has no code at {code_provider}, so it can't be sold. {PlanNotMapped.meaning}"
        )
    plan = sale.plan
    given_id = drawn_id if claim.forgotten_order_id is None else claim.forgotten_order_id
    placed = await connection.execute(
        _PLACE if given_id is None else _PLACE_UNDER,
        ({} if given_id is None else {"order_id": given_id})
        | {
            "plan_id": plan.id,
            "plan_snapshot": plan.plan_snapshot(code_provider, sale.external_id),
            "amount_minor": plan.price_minor,
            "currency": plan.currency,
            "customer_email": new.customer_email,
            "customer_name": new.customer_name,
            "customer_locale": new.customer_locale,
            "payment_reference": new.payment_reference,
            "placed_by_key_id": key_id,
        },
    )
    order_id, profile_id = placed.one()
    page = no_page() if page_links is None else page_links.new(profile_id, plan.validity_days)
    profile = {"profile_id": profile_id, "order_id": order_id, "provider": provider, "is_live": is_live}
    await connection.execute(_PROFILE, profile | page)
    if claim.forgotten_order_id is not None:
        await file_forgotten(connection, order_id, profile_id)
    digest = new.digest()
    await connection.execute(_REMEMBER, {"key": idempotency_key, "request_hash": digest, "order_id": order_id})
    told = entry(f"key:{key_id}", Tag.ORDER_PLACED, "orders", order_id, sku=new.sku)
    news = OrderPaid(order_id=order_id, esim_id=profile_id, is_live=is_live)
    await connection.execute(_RECORD_AND_TELL, told | telling(news))
    return Placed(order_id, is_replay=False)
