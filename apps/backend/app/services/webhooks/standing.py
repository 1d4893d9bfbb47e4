"""How the telling stands, in numbers, for whoever watches."""

from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import WebhookDelivery, WebhookEndpoint

FAILING_AFTER = "1 hour"
"""Shorter than that is a receiver's deployment, not an alarm."""


@dataclass(frozen=True, slots=True)
class Standing:
    """`disabled`: by a receiver's 410 or by us; what a person has disabled is no alarm."""

    enabled: int
    pending: int
    failing: int
    disabled: int


_is_enabled = WebhookEndpoint.disabled_at.is_(None)
_has_failed_long = WebhookEndpoint.failing_since < func.now() - text(f"interval '{FAILING_AFTER}'")
_COUNT = select(
    func.count().filter(_is_enabled).label("enabled"),
    func.count().filter(_is_enabled, _has_failed_long).label("failing"),
    func.count().filter(WebhookEndpoint.disabled_because != "asked").label("disabled"),
    select(func.count())
    .where(
        WebhookDelivery.status == "pending",
        WebhookDelivery.endpoint_id.in_(select(WebhookEndpoint.id).where(_is_enabled)),
    )
    .scalar_subquery()
    .label("pending"),
).select_from(WebhookEndpoint)


async def count_endpoints(connection: AsyncConnection) -> Standing:
    row = (await connection.execute(_COUNT)).one()
    return Standing(row.enabled, row.pending, row.failing, row.disabled)
