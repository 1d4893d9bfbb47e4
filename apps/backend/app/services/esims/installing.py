"""Where a traveller stands with an eSIM: what its install page says, and the one thing to do next."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil
from typing import Any, Final

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import EsimProfile, Order
from app.services.esims.esim import COLUMNS, Esim, esim_of
from app.services.orders.page_links import token_hash
from app.vault import Vault

LATE_AFTER: Final = timedelta(minutes=15)
"""After which an order that isn't provisioned counts as unfulfilled (design section 2)."""


class Stage(StrEnum):
    """How far the eSIM is, for its traveller. One for every combination of the states that it can be in."""

    PREPARING = "preparing"
    LATE = "late"
    CHECKING = "checking"
    """It isn't known whether the provider has issued it."""
    NOT_SUPPLIED = "not_supplied"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"
    READY = "ready"
    DOWNLOADED = "downloaded"
    INSTALLED = "installed"
    ON = "on"
    OFF = "off"
    IN_USE = "in_use"
    DELETED = "deleted"
    USED_UP = "used_up"
    EXPIRED = "expired"
    ENDED = "ended"


_UNPROVISIONED: Final = {
    "pending": Stage.PREPARING,
    "provisioning": Stage.PREPARING,
    "unknown": Stage.CHECKING,
    "refused": Stage.NOT_SUPPLIED,
    "cancelled": Stage.CANCELLED,
}
_PLAN_IS_OVER: Final = {"depleted": Stage.USED_UP, "expired": Stage.EXPIRED, "terminated": Stage.ENDED}
_ON_THE_PHONE: Final = {
    None: Stage.READY,
    "released": Stage.READY,
    "downloaded": Stage.DOWNLOADED,
    "installed": Stage.INSTALLED,
    "enabled": Stage.ON,
    "disabled": Stage.OFF,
    "deleted": Stage.DELETED,
}


@dataclass(frozen=True, slots=True)
class Installing:
    """
    An eSIM with what its page needs of the order.

    Attributes:
        customer_locale: as the order has it; None where the shop didn't say.
        now: the database's time.
        ends_at: when the plan's days are over; None until it is known.
    """

    esim: Esim
    order_status: str
    plan_snapshot: dict[str, Any] = field(repr=False)
    customer_locale: str | None
    ordered_at: datetime
    ends_at: datetime | None
    now: datetime

    @property
    def stage(self) -> Stage:
        esim = self.esim
        if self.order_status == "refunded":
            return Stage.REFUNDED
        if self.order_status == "cancelled":
            return Stage.CANCELLED
        if esim.status != "provisioned":
            stage = _UNPROVISIONED[esim.status]
            return Stage.LATE if stage is Stage.PREPARING and self.now - self.ordered_at >= LATE_AFTER else stage
        if esim.plan_state in _PLAN_IS_OVER:
            return _PLAN_IS_OVER[esim.plan_state]
        stage = _ON_THE_PHONE[esim.profile_state]
        if esim.plan_state == "active" and stage not in {Stage.OFF, Stage.DELETED}:
            return Stage.IN_USE  # data flows, so it is installed and on, whatever news of the phone got lost
        return stage

    @property
    def data_left_mb(self) -> float | None:
        """None where the provider hasn't told both numbers."""
        esim = self.esim
        if esim.data_used_mb is None or esim.data_total_mb is None:
            return None
        return max(esim.data_total_mb - esim.data_used_mb, 0)

    @property
    def days_left(self) -> int | None:
        """Begun days count whole; None where the end isn't known, or is past while nobody has said so yet."""
        if self.ends_at is None or self.ends_at <= self.now:
            return None
        return ceil((self.ends_at - self.now) / timedelta(days=1))


_COLUMNS: Sequence[Any] = (
    *COLUMNS,
    Order.status.label("order_status"),
    Order.plan_snapshot,
    Order.customer_locale,
    Order.created_at.label("ordered_at"),
    EsimProfile.plan_expires_at.label("ends_at"),
    func.now().label("now"),
)
_BY_TOKEN = (
    select(*_COLUMNS)
    .join(Order, Order.id == EsimProfile.order_id)
    .where(EsimProfile.page_token_hash == bindparam("token_hash"), EsimProfile.page_expires_at > func.now())
)


async def installing_by_token(connection: AsyncConnection, vault: Vault, token: str) -> Installing | None:
    """What stands behind the link that ends so; None where nothing does, or nothing any more."""
    if (hashed := token_hash(token)) is None:
        return None
    row = (await connection.execute(_BY_TOKEN, {"token_hash": hashed})).one_or_none()
    if row is None:
        return None
    return Installing(
        esim_of(row, vault),
        row.order_status,
        row.plan_snapshot,
        row.customer_locale,
        row.ordered_at,
        row.ends_at,
        row.now,
    )
