"""Valid things, made with one call; a test names only what it is about."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from secrets import token_urlsafe
from typing import Any

from sqlalchemy import func, insert, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.db import Database
from app.models import Order, Plan, PlanCode, Traveller, TravellerSession
from app.services.accounts.codes import hash_of
from app.services.accounts.keys import create_key
from app.services.esims.answer import code_values
from app.services.orders.place import NewOrder, place_order
from app.values.activation_code import ActivationCode
from app.values.email_address import address_key
from app.values.iccid import Iccid
from app.vault import Vault

_numbers = count(1)


async def a_plan(
    db: Database,
    *,
    sku: str | None = None,
    code: str | None = "CY-ES-5GB",
    provider: str = "CONNECTED_YOU",
    **columns: Any,
) -> str:
    """A plan on sale. `code`: the provider's, None for none. Returns its SKU."""
    sku = sku or f"es-5gb-{next(_numbers)}"
    values = {
        "name": "Spain 5GB",
        "country_iso2": "ES",
        "data_mb": 5120,
        "validity_days": 30,
        "price_minor": 1290,
        "currency": "EUR",
    }
    async with db.begin() as connection:
        plan_id = await connection.scalar(insert(Plan).values(sku=sku, **values | columns).returning(Plan.id))
        if code is not None:
            await connection.execute(insert(PlanCode).values(plan_id=plan_id, provider=provider, external_id=code))
    return sku


async def a_key(db: Database, *scopes: str) -> tuple[int, str]:
    """A service key (all scopes unless named): its id and its secret."""
    async with db.begin() as connection:
        key, secret = await create_key(
            connection, "a shop", list(scopes or ("orders", "esims", "webhooks")), actor="test"
        )
    return key.id, secret


async def an_order(
    db: Database,
    *,
    code: str | None = "CY-ES-5GB",
    provider: str = "CONNECTED_YOU",
    status: str = "paid",
    is_live: bool = False,
) -> int:
    """An order of its own plan by its own key. `code`: the provider's for the plan, None for none. Returns its id."""
    sku = await a_plan(db, code=code, provider=provider)
    key_id, _ = await a_key(db)
    new = NewOrder(sku, "ana@example.com", "Ana Traveller", f"pay-{next(_numbers)}")
    async with db.begin() as connection:
        placed = await place_order(
            connection,
            new,
            idempotency_key=f"key-{next(_numbers)}",
            key_id=key_id,
            provider=provider,
            code_provider=provider if code else None,
            is_live=is_live,
        )
        if status != "paid":
            await connection.execute(update(Order).where(Order.id == placed.order_id).values(status=status))
    return placed.order_id


_PROFILES = text("SELECT order_id, id FROM esim_profiles WHERE order_id = ANY(:order_ids)")
_DELIVER = text(
    "UPDATE esim_profiles SET status = 'provisioned', provisioned_at = now(), plan_state = 'not_started',"
    " activation_code = :activation_code, activation_code_fingerprint = :activation_code_fingerprint,"
    " iccid = :iccid, iccid_fingerprint = :iccid_fingerprint WHERE id = :profile_id"
)


async def provisioned(db: Database, vault: Vault, order_ids: Sequence[int]) -> list[str]:
    """These orders have their eSIMs, without a provider. Returns the ICCIDs."""
    iccids = [Iccid.make(f"89999{order_id:013d}") for order_id in order_ids]
    async with db.begin() as connection:
        rows = await connection.execute(_PROFILES, {"order_ids": list(order_ids)})
        profile_ids = {row.order_id: row.id for row in rows}
        values = [
            code_values(vault, profile_ids[order_id], ActivationCode.make("SMDP.EXAMPLE.COM", f"A{order_id}"), iccid)
            | {"profile_id": profile_ids[order_id]}
            for order_id, iccid in zip(order_ids, iccids, strict=True)
        ]
        await connection.execute(_DELIVER, values)
    return [iccid.text for iccid in iccids]


async def a_session(db: Database, address: str = "ana@example.com", *, idle_days: float = 0) -> str:
    """The token of a new session of a traveller; not used since so many days."""
    token = f"tribi_session_{token_urlsafe(32)}"
    traveller = upsert(Traveller).values(address=address_key(address))
    known = traveller.on_conflict_do_update(
        index_elements=[Traveller.address], set_={"address": traveller.excluded.address}
    )
    async with db.begin() as connection:
        traveller_id = await connection.scalar(known.returning(Traveller.id))
        await connection.execute(
            insert(TravellerSession).values(
                traveller_id=traveller_id,
                token_hash=hash_of(token),
                last_used_at=func.now() - timedelta(days=idle_days),
                ends_at=func.now() + timedelta(days=30),
            )
        )
    return token
