"""The log of deliveries: what was sent where, what came of it, and sending it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, any_, bindparam, case, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Tag, record
from app.db import Database
from app.errors import NotFound, TribiError
from app.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from app.models.webhooks import DELIVERY_STATUSES
from app.services.webhooks.payload import payload

NEWEST = 2**63 - 1
"""Above every id: where a list begins."""

STATUSES = DELIVERY_STATUSES
KEPT_FOR = "30 days"
_BATCH = 1000


class EndpointDisabled(TribiError):
    code = "webhook-endpoint-disabled"
    title = "This webhook endpoint is disabled"
    meaning = "Nothing is sent to a webhook endpoint that is disabled. Enable it first (`is_enabled`), then send again."
    http_status = 409


@dataclass(frozen=True, slots=True)
class LoggedDelivery:
    """
    One event to one endpoint. `attempts`: of the present round, `history`: of all, the last 50, the newest at the end.
    `next_attempt_at`: None once it is delivered or failed.
    """

    id: int
    endpoint_id: int
    message_id: str
    payload: dict[str, Any]
    status: str
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    history: list[dict[str, Any]]


_LOGGED: Select[Any] = select(
    WebhookDelivery.id,
    WebhookDelivery.endpoint_id,
    WebhookDelivery.status,
    WebhookDelivery.attempts,
    WebhookDelivery.next_attempt_at,
    WebhookDelivery.created_at,
    WebhookDelivery.ended_at,
    WebhookDelivery.history,
    WebhookEvent.message_id,
    WebhookEvent.type,
    WebhookEvent.data,
    WebhookEvent.occurred_at,
).join(WebhookEvent, WebhookEvent.id == WebhookDelivery.event_id)
_of = WebhookDelivery.id == bindparam("delivery_id")
_ONE = _LOGGED.where(_of)
_AGAIN = (
    update(WebhookDelivery)
    .where(_of)
    .values(
        # One that is under way stays so: nobody sends it a second time meanwhile.
        attempts=case((WebhookDelivery.status == "pending", WebhookDelivery.attempts), else_=0),
        status="pending",
        next_attempt_at=func.now(),
        ended_at=None,
    )
    .returning(
        WebhookDelivery.endpoint_id,
        select(WebhookEndpoint.id)
        .where(WebhookEndpoint.id == WebhookDelivery.endpoint_id, WebhookEndpoint.disabled_at.is_(None))
        .exists()
        .label("is_enabled"),
    )
)
_is_old = WebhookEvent.occurred_at < func.now() - text(f"interval '{KEPT_FOR}'")
# An array, not IN: that might be a join with all events.
_oldest = func.array(select(WebhookEvent.id).order_by(WebhookEvent.id).limit(_BATCH).scalar_subquery())
_FORGET = delete(WebhookEvent).where(WebhookEvent.id == any_(_oldest), _is_old)


async def list_deliveries(
    connection: AsyncConnection,
    *,
    endpoint_id: int | None = None,
    status: str | None = None,
    before_id: int = NEWEST,
    limit: int | None = None,
) -> Sequence[LoggedDelivery]:
    """
    Newest first.

    Args:
        endpoint_id, status: only of that endpoint, or in that status (one of STATUSES).
        before_id: only ids below it.
        limit: None for all.
    """
    query = _LOGGED.where(WebhookDelivery.id < before_id).order_by(WebhookDelivery.id.desc()).limit(limit)
    if endpoint_id is not None:
        query = query.where(WebhookDelivery.endpoint_id == endpoint_id)
    if status is not None:
        query = query.where(WebhookDelivery.status == status)
    return [_logged(row) for row in await connection.execute(query)]


async def redeliver(
    connection: AsyncConnection, delivery_id: int, *, actor: str, endpoint_id: int | None = None
) -> LoggedDelivery:
    """
    Sends a delivery again, now, under its `webhook-id`; one that had ended gets ten attempts anew.

    Args:
        endpoint_id: whose delivery it must be; None for any.

    Raises:
        NotFound: there is no such delivery.
        EndpointDisabled: nothing was changed.
    """
    found = (await connection.execute(_AGAIN, {"delivery_id": delivery_id})).one_or_none()
    if found is None or endpoint_id not in (None, found.endpoint_id):
        raise NotFound(f"there is no webhook delivery {delivery_id}")
    if not found.is_enabled:
        raise EndpointDisabled(
            f"webhook endpoint {found.endpoint_id} is disabled: `tribi webhooks enable {found.endpoint_id}` first"
        )
    await record(connection, actor, Tag.WEBHOOK_REDELIVERED, "webhook_deliveries", delivery_id)
    return _logged((await connection.execute(_ONE, {"delivery_id": delivery_id})).one())


async def forget_old_events(db: Database) -> None:
    """Events of more than 30 days ago, with their deliveries. Ids are in the order of time, give or take a transaction."""
    while True:
        async with db.begin() as connection:
            if (await connection.execute(_FORGET)).rowcount < _BATCH:
                return


def _logged(row: Row[Any]) -> LoggedDelivery:
    return LoggedDelivery(
        row.id,
        row.endpoint_id,
        row.message_id,
        payload(row.type, row.occurred_at, row.data),
        row.status,
        row.attempts,
        row.next_attempt_at,
        row.created_at,
        row.ended_at,
        row.history,
    )
