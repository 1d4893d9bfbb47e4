"""
Delivering: what is due is claimed, sent without a transaction, and what came of it noted.

A claim is a lease by the database's clock. Who loses it (a process that slept) notes nothing; the message then goes out twice,
with one `webhook-id`, by which its receiver knows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import (
    BigInteger,
    Float,
    Integer,
    Text,
    bindparam,
    case,
    column,
    func,
    literal,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from app import metrics
from app.audit import SYSTEM, Tag, record
from app.db import until_stored
from app.house import House
from app.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from app.services.webhooks.endpoints import SECRETS, opened
from app.services.webhooks.line import TIMEOUT_S, Answer, Line, Message, Outcome
from app.services.webhooks.payload import body_of, rfc3339
from app.services.webhooks.schedule import pause_after
from app.vault import Keyring

AT_ONCE = 10
"""Messages under way to one endpoint, from one process: what is slow there, or piled up, keeps no place from others."""

GIVEN_UP_AFTER = timedelta(days=5)
"""An endpoint that has taken nothing for so long is disabled."""

_LEASE = timedelta(seconds=3 * TIMEOUT_S)
_MOST_HISTORY = 50
"""Attempts that the log of a delivery holds; older ones make room."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One that is ours to send, until `lease`."""

    id: int
    endpoint_id: int
    lease: datetime
    attempts: int
    kind: str
    message: Message = field(repr=False)


_busy = (
    func.unnest(bindparam("busy_ids", type_=ARRAY(BigInteger)), bindparam("busy_counts", type_=ARRAY(Integer)))
    .table_valued(column("endpoint_id", BigInteger), column("under_way", Integer))
    .render_derived("busy")
)
# The endpoints are few; of each the oldest that are due, by its own part of the index.
_due_of_each = (
    select(WebhookDelivery.id)
    .where(
        WebhookDelivery.endpoint_id == WebhookEndpoint.id,
        WebhookDelivery.status == "pending",
        WebhookDelivery.next_attempt_at <= func.now(),
        or_(WebhookDelivery.leased_until.is_(None), WebhookDelivery.leased_until < func.now()),
    )
    .order_by(WebhookDelivery.next_attempt_at)
    .limit(AT_ONCE - func.coalesce(_busy.c.under_way, 0))
    .with_for_update(skip_locked=True)
    .correlate(WebhookEndpoint, _busy)
    .lateral("due_of_each")
)
_due = (
    select(_due_of_each.c.id, WebhookEndpoint.url, *SECRETS)
    .select_from(WebhookEndpoint)
    .outerjoin(_busy, _busy.c.endpoint_id == WebhookEndpoint.id)
    .join(_due_of_each, true())
    .where(WebhookEndpoint.disabled_at.is_(None))
    .cte("due")
)
_CLAIM = (
    update(WebhookDelivery)
    .where(WebhookDelivery.id == _due.c.id, WebhookEvent.id == WebhookDelivery.event_id)
    .values(leased_until=func.now() + _LEASE)
    .returning(
        WebhookDelivery.id,
        WebhookDelivery.endpoint_id,
        WebhookDelivery.leased_until,
        WebhookDelivery.attempts,
        WebhookEvent.message_id,
        WebhookEvent.type,
        WebhookEvent.data,
        WebhookEvent.occurred_at,
        _due.c.url,
        _due.c.secret,
        _due.c.previous_secret,
    )
)

_status = bindparam("new_status", type_=Text)
_history = case(
    (func.jsonb_array_length(WebhookDelivery.history) >= _MOST_HISTORY, WebhookDelivery.history.op("-")(text("0"))),
    else_=WebhookDelivery.history,
)
_note = (
    update(WebhookDelivery)
    .where(
        WebhookDelivery.id == bindparam("delivery_id"),
        WebhookDelivery.leased_until == bindparam("lease"),
        WebhookDelivery.status == "pending",
    )
    .values(
        status=_status,
        attempts=WebhookDelivery.attempts + 1,
        next_attempt_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("pause_s", type_=Float)),
        leased_until=None,
        ended_at=case((_status != "pending", func.now())),
        history=_history.op("||")(bindparam("attempt", type_=JSONB)),
    )
)
_endpoint = update(WebhookEndpoint).where(WebhookEndpoint.id == bindparam("of_endpoint"))
_is_well = _endpoint.where(WebhookEndpoint.failing_since.is_not(None)).values(failing_since=None)
_is_failing = _endpoint.where(WebhookEndpoint.failing_since.is_(None)).values(failing_since=func.now())
_NOTE_TAKEN = _note.add_cte(_is_well.cte("well"))
_NOTE_FAILED = _note.add_cte(_is_failing.cte("failing"))
_DISABLE = (
    _endpoint.where(
        WebhookEndpoint.disabled_at.is_(None),
        or_(literal("gone") == bindparam("because"), WebhookEndpoint.failing_since < func.now() - GIVEN_UP_AFTER),
    )
    .values(disabled_at=func.now(), disabled_because=bindparam("because"))
    .returning(WebhookEndpoint.id)
)


async def claim(connection: AsyncConnection, keyring: Keyring, busy: Mapping[int, int]) -> list[Delivery]:
    """
    Takes what is due, of each endpoint as much as there is room for.

    Args:
        busy: how many messages are under way from this process, by endpoint.
    """
    room = {"busy_ids": list(busy.keys()), "busy_counts": list(busy.values())}
    return [
        Delivery(
            row.id,
            row.endpoint_id,
            row.leased_until,
            row.attempts,
            row.type,
            Message(
                row.message_id,
                row.url,
                body_of(row.type, row.occurred_at, row.data),
                opened(keyring, row.endpoint_id, row.secret, row.previous_secret),
            ),
        )
        for row in await connection.execute(_CLAIM, room)
    ]


async def deliver(house: House, line: Line, delivery: Delivery) -> None:
    """
    Sends a delivery that was claimed, and notes what came of it.

    Raises:
        DatabaseUnavailable: it couldn't be noted while the lease lasted: it is sent again.
    """
    at = datetime.now(UTC)
    answer = await line.post(delivery.message)
    metrics.WEBHOOK_ATTEMPTS.labels(answer.outcome).inc()
    await until_stored(lambda: _note_answer(house, delivery, at, answer), _LEASE.total_seconds() - answer.ms / 1000)


async def _note_answer(house: House, delivery: Delivery, at: datetime, answer: Answer) -> None:
    pause_s = pause_after(delivery.attempts + 1)
    if answer.outcome is Outcome.DELIVERED:
        status, pause_s = "delivered", None
    elif answer.outcome is Outcome.GONE or pause_s is None:
        status, pause_s = "failed", None
    else:
        status = "pending"
    values: dict[str, Any] = {
        "delivery_id": delivery.id,
        "of_endpoint": delivery.endpoint_id,
        "lease": delivery.lease,
        "new_status": status,
        "pause_s": pause_s,
        "attempt": [
            {
                "at": rfc3339(at),
                "outcome": answer.outcome.value,
                "status": answer.status,
                "ms": answer.ms,
                "said": answer.said,
            }
        ],
    }
    because = None
    async with house.db.begin() as connection:
        noted = await connection.execute(_NOTE_TAKEN if status == "delivered" else _NOTE_FAILED, values)
        if not noted.rowcount:
            return  # noted already, or somebody else's by now
        if status != "delivered":
            because = await _disable(connection, delivery.endpoint_id, is_gone=answer.outcome is Outcome.GONE)
    facts = {"endpoint_id": delivery.endpoint_id, "delivery_id": delivery.id, "type": delivery.kind}
    if status == "failed":
        metrics.WEBHOOK_DELIVERIES_FAILED.inc()
        log.warning("webhooks.delivery_failed", **facts, outcome=answer.outcome.value, status=answer.status)
    elif status == "pending":
        log.info("webhooks.attempt_failed", **facts, outcome=answer.outcome.value, status=answer.status)
    if because is not None:
        log.error("webhooks.endpoint_disabled", endpoint_id=delivery.endpoint_id, because=because)


async def _disable(connection: AsyncConnection, endpoint_id: int, *, is_gone: bool) -> str | None:
    """Where that is due. Returns why."""
    because = "gone" if is_gone else "failing"
    if await connection.scalar(_DISABLE, {"of_endpoint": endpoint_id, "because": because}) is None:
        return None
    await record(connection, SYSTEM, Tag.WEBHOOK_DISABLED, "webhook_endpoints", endpoint_id, because=because)
    return because
