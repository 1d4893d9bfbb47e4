"""An eSIM as everybody outside sees it: read from its row, its secrets opened."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from app.direct import Direct
from app.errors import NotFound
from app.models import EsimProfile, Order
from app.models.esims import PROFILE_STATUSES
from app.services.esims.stuck import is_unfulfilled
from app.services.esims.undelivered import is_undelivered
from app.services.orders.page_links import VALID_PAGE_TOKEN, open_page_token
from app.services.orders.show import IS_OWN
from app.values.activation_code import ActivationCode
from app.vault import Place, Vault

STATUSES = PROFILE_STATUSES
"""What an eSIM's `status` may be (design section 2)."""

NEWEST = 2**63 - 1
"""Above every id: where a list begins."""

SEALED = ("activation_code", "iccid", "qr_code", "instructions", "provider_payload")
"""The profile's columns that are encrypted, each for its own row."""

COLUMNS: Sequence[Any] = (
    EsimProfile.id,
    EsimProfile.order_id,
    EsimProfile.status,
    EsimProfile.is_live,
    EsimProfile.provider,
    EsimProfile.provider_reference,
    EsimProfile.provisioned_at,
    EsimProfile.activation_code,
    EsimProfile.iccid,
    EsimProfile.qr_code,
    EsimProfile.instructions,
    EsimProfile.profile_state,
    EsimProfile.plan_state,
    EsimProfile.data_used_mb,
    EsimProfile.data_total_mb,
    EsimProfile.usage_at,
    EsimProfile.warnings,
    VALID_PAGE_TOKEN.label("page_token"),
)


@dataclass(frozen=True, slots=True)
class Esim:
    """States are design section 2's; `data_*_mb` in megabytes as the provider tells them, None where it doesn't."""

    id: int
    order_id: int
    status: str
    is_live: bool
    provider: str
    provider_reference: str | None
    provisioned_at: datetime | None
    activation_code: ActivationCode | None
    iccid: str | None = field(repr=False)
    qr_code: str | None = field(repr=False)
    """What the QR encodes: as the provider sent it, else the activation code; None before it is provisioned."""
    instructions: str | None = field(repr=False)
    profile_state: str | None
    plan_state: str | None
    data_used_mb: float | None
    data_total_mb: float | None
    usage_at: datetime | None
    warnings: tuple[str, ...]
    page_token: str | None = field(repr=False)
    """Of its install page; None where there is none, or none any more."""


def place_of(column: str, profile_id: int) -> Place:
    """Where a sealed column of a profile stands."""
    return Place(EsimProfile.__tablename__, column, profile_id)


def esim_of(row: Any, vault: Vault) -> Esim:  # noqa: ANN401 - SQLAlchemy's, or as `Direct` gives it
    """From a row that holds COLUMNS."""
    code_text = vault.open_text(row.activation_code, place_of("activation_code", row.id))
    code = ActivationCode.read(code_text) if code_text else None
    qr_code = vault.open_text(row.qr_code, place_of("qr_code", row.id)) or (code.lpa if code else None)
    return Esim(
        id=row.id,
        order_id=row.order_id,
        status=row.status,
        is_live=row.is_live,
        provider=row.provider,
        provider_reference=row.provider_reference,
        provisioned_at=row.provisioned_at,
        activation_code=code,
        iccid=vault.open_text(row.iccid, place_of("iccid", row.id)),
        qr_code=qr_code,
        instructions=vault.open_text(row.instructions, place_of("instructions", row.id)),
        profile_state=row.profile_state,
        plan_state=row.plan_state,
        data_used_mb=row.data_used_mb,
        data_total_mb=row.data_total_mb,
        usage_at=row.usage_at,
        warnings=tuple(row.warnings),
        page_token=open_page_token(vault, row.id, row.page_token),
    )


_by_id = select(*COLUMNS).where(EsimProfile.id == bindparam("id"))
_BY_ID = Direct(_by_id)
_OWN_BY_ID = Direct(_by_id.join(Order, Order.id == EsimProfile.order_id).where(IS_OWN))
_BY_ORDERS = select(*COLUMNS).where(EsimProfile.order_id == bindparam("order_ids", type_=ARRAY(BigInteger)).any_())
_BY_ORDER = Direct(select(*COLUMNS).where(EsimProfile.order_id == bindparam("order_id")))


async def esim_by_id(connection: AsyncConnection, vault: Vault, esim_id: int, *, owner: str | None = None) -> Esim:
    """
    Args:
        owner: the traveller who must own it, in the form of `address_key`; None: anybody may.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    own = {} if owner is None else {"owner": owner}
    row = await (_BY_ID if owner is None else _OWN_BY_ID).one_or_none(connection, {"id": esim_id} | own)
    if row is None:
        raise NotFound(f"there is no eSIM {esim_id}")
    return esim_of(row, vault)


async def esim_by_order(connection: AsyncConnection, vault: Vault, order_id: int) -> Esim:
    """
    Raises:
        NotFound: there is no such order.
    """
    row = await _BY_ORDER.one_or_none(connection, {"order_id": order_id})
    if row is None:
        raise NotFound(f"there is no order {order_id}")
    return esim_of(row, vault)


async def esims_of_orders(connection: AsyncConnection, vault: Vault, order_ids: list[int]) -> dict[int, Esim]:
    """The orders' eSIMs by order id."""
    rows = await connection.execute(_BY_ORDERS, {"order_ids": order_ids})
    return {row.order_id: esim_of(row, vault) for row in rows}


async def list_esims(
    connection: AsyncConnection,
    vault: Vault,
    *,
    before_id: int = NEWEST,
    limit: int | None = None,
    status: str | None = None,
    only_unfulfilled: bool = False,
    only_undelivered: bool = False,
    owner: str | None = None,
) -> list[Esim]:
    """
    Newest first.

    Args:
        before_id: only ids below it.
        limit: None for all.
        status: one of STATUSES, None for any.
        only_unfulfilled: those that `is_unfulfilled` counts.
        only_undelivered: those of which `is_undelivered` is true.
        owner: as of `esim_by_id`.
    """
    query = select(*COLUMNS).where(EsimProfile.id < before_id).order_by(EsimProfile.id.desc()).limit(limit)
    if owner is not None:
        query = query.join(Order, Order.id == EsimProfile.order_id).where(IS_OWN).params(owner=owner)
    if status is not None:
        query = query.where(EsimProfile.status == status)
    if only_unfulfilled:
        query = query.where(is_unfulfilled())
    if only_undelivered:
        query = query.where(is_undelivered())
    return [esim_of(row, vault) for row in await connection.execute(query)]
