"""What service keys ask for most, each in one question to the database: who is asking, and what it is about."""

from typing import Any

from sqlalchemy import FromClause, Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import join

from app.direct import Direct
from app.errors import NotFound
from app.models import EsimProfile, Order
from app.services.accounts.keys import BY_HASH, KeyCaller, asked_by, asked_with
from app.services.esims.esim import COLUMNS, Esim, esim_of
from app.services.esims.intent import STANDING, Looked
from app.vault import Vault

_asking = BY_HASH.cte("asking")


def _about(*columns: Any, found: Any, where: Any) -> Select[Any]:  # noqa: ANN401 - SQLAlchemy's own types don't cover joins of tables
    """One row where the key is known, its columns of `found` null where there is nothing to be found."""
    source: FromClause = _asking.outerjoin(found, where)
    return select(_asking.c.key_id, _asking.c.scopes, _asking.c.is_use_unnoted, *columns).select_from(source)


_ESIM = Direct(_about(*COLUMNS, found=EsimProfile, where=EsimProfile.id == bindparam("id")))
_STANDING = Direct(
    _about(
        *STANDING,
        *(column for column in COLUMNS if column is not EsimProfile.status),
        found=join(Order, EsimProfile, EsimProfile.order_id == Order.id),
        where=Order.id == bindparam("order_id"),
    )
)


async def esim_for_key(connection: AsyncConnection, vault: Vault, secret: str, esim_id: int) -> Esim:
    """
    Raises:
        Unauthenticated: no key has that secret.
        NotFound: there is no such eSIM.
    """
    row = await _ESIM.one_or_none(connection, {"id": esim_id} | asked_with(secret))
    await asked_by(connection, row)
    if row.id is None:
        raise NotFound(f"there is no eSIM {esim_id}")
    return esim_of(row, vault)


async def standing_for_key(
    connection: AsyncConnection, vault: Vault, secret: str, order_id: int
) -> tuple[KeyCaller, Esim | Looked]:
    """
    How an order stands that a key wants to activate, without locking it.

    Returns:
        The eSIM once it is provisioned. Else what was seen, without a judgement: what this process has under way for the order
        goes before it.

    Raises:
        Unauthenticated, Forbidden: no key has that secret, or it may not activate.
        NotFound: there is no such order.
    """
    row = await _STANDING.one_or_none(connection, {"order_id": order_id} | asked_with(secret))
    caller = await asked_by(connection, row)
    caller.require("esims")
    if row.id is None:
        raise NotFound
    if row.status == "provisioned":
        return caller, esim_of(row, vault)
    return caller, Looked(row.order_status, row.status, row.attempt_id)
