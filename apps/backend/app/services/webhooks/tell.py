"""Telling: an event goes on file with what it is about, in the caller's transaction, once for each endpoint that wants to hear it.

Where no endpoint does, nothing is written. It is a statement to be merged with another: an activation pays no round trip for it.
"""

from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, func, insert, or_, select, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from app.services.webhooks.events import News

_type = bindparam("event_type", type_=Text)


def _wants() -> ColumnElement[bool]:
    is_for_all = func.cardinality(WebhookEndpoint.events) == 0
    return WebhookEndpoint.disabled_at.is_(None) & or_(is_for_all, _type == WebhookEndpoint.events.any_())


_told = (
    insert(WebhookEvent)
    .from_select(
        ["type", "data"],
        select(_type, bindparam("event_data", type_=JSONB)).where(select(WebhookEndpoint.id).where(_wants()).exists()),
    )
    .returning(WebhookEvent.id)
    .cte("told")
)
_fan_out = insert(WebhookDelivery).from_select(
    ["event_id", "endpoint_id", "next_attempt_at"],
    select(_told.c.id, WebhookEndpoint.id, func.now()).select_from(WebhookEndpoint).join(_told, true()).where(_wants()),
)
TELLING = _fan_out.cte("fanned_out")
"""For `add_cte` of a statement that writes what is told; takes `telling(news)` besides that one's own parameters."""


def telling(news: News) -> dict[str, Any]:
    """The parameters of TELLING."""
    return {"event_type": news.kind, "event_data": news.data}


async def tell(connection: AsyncConnection, news: News) -> None:
    """For acts in which a round trip doesn't matter."""
    await connection.execute(_fan_out, telling(news))
