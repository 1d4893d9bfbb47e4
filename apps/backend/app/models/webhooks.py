"""News to the seller: who wants to hear it, what there was to tell, and what became of telling it."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Integer, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import BigInt, CreatedAt, Id, Instant, Json, Sealed, String, one_of

EVENTS = (
    "order.paid",
    "esim.provisioned",
    "esim.refused",
    "esim.outcome_unknown",
    "esim.resolved",
    "esim.profile_state_changed",
    "esim.plan_state_changed",
    "esim.usage_alert",
)
DISABLED_BECAUSE = ("asked", "gone", "failing")
"""By somebody; by the receiver itself, which answered 410; by Tribi, after days without a success."""

DELIVERY_STATUSES = ("pending", "delivered", "failed")


class WebhookEndpoint(Base):
    """A seller's URL that hears of events."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint(f"events <@ ARRAY[{', '.join(map(repr, EVENTS))}]::text[]", name="events"),
        CheckConstraint(one_of("disabled_because", DISABLED_BECAUSE), name="disabled_because"),
        CheckConstraint("(disabled_at IS NULL) = (disabled_because IS NULL)", name="disabled_says_why"),
        CheckConstraint("(previous_secret IS NULL) = (previous_until IS NULL)", name="previous_secret_ends"),
    )

    id: Mapped[Id]
    url: Mapped[String]
    """May hold a secret in its path or query: for whoever manages endpoints, never for a log or a metric."""
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Which ones; empty for all."""
    secret: Mapped[Sealed]
    previous_secret: Mapped[Sealed | None]
    """It was rotated: until then receivers may still verify with this one."""
    previous_until: Mapped[Instant | None]
    created_at: Mapped[CreatedAt]
    failing_since: Mapped[Instant | None]
    """The first of the failed attempts that no success has followed."""
    disabled_at: Mapped[Instant | None]
    disabled_because: Mapped[String | None]


class WebhookEvent(Base):
    """Something that happened, as it is told: ids, states and times, never a code, a number of a card or a person."""

    __tablename__ = "webhook_events"
    __table_args__ = (CheckConstraint(one_of("type", EVENTS), name="type"),)

    id: Mapped[Id]
    message_id: Mapped[str] = mapped_column(
        Text, server_default=text("('msg_'::text || replace((gen_random_uuid())::text, '-'::text, ''::text))")
    )
    """The `webhook-id`: the same to every endpoint and at every attempt, other than in any other installation."""
    type: Mapped[String]
    data: Mapped[Json]
    occurred_at: Mapped[CreatedAt]


class WebhookDelivery(Base):
    """One event to one endpoint: the queue, and its log. Nobody has to do it but who holds the lease."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("event_id", "endpoint_id"),
        CheckConstraint(one_of("status", DELIVERY_STATUSES), name="status"),
        CheckConstraint("(status = 'pending') = (next_attempt_at IS NOT NULL)", name="pending_has_its_time"),
        Index(
            "ix_webhook_deliveries_due", "endpoint_id", "next_attempt_at", postgresql_where=text("status = 'pending'")
        ),
        Index("ix_webhook_deliveries_endpoint_id", "endpoint_id", "id"),
        Index("ix_webhook_deliveries_failed", "id", postgresql_where=text("status = 'failed'")),
    )

    id: Mapped[Id]
    event_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("webhook_events.id", ondelete="CASCADE"))
    endpoint_id: Mapped[BigInt]
    """No foreign key: an activation would lock the endpoint's row, and fail if somebody removes it at that moment."""
    status: Mapped[str] = mapped_column(Text, server_default="pending")
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Of the present round; a redelivery begins another."""
    next_attempt_at: Mapped[Instant | None]
    leased_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """Some process is at it until then (database time)."""
    history: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    """Every attempt: `at`, `outcome`, `status`, `ms`, and what was said, cut and redacted."""
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[Instant | None]
