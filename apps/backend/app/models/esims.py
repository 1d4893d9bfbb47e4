"""eSIM profiles (what orders become) and provisioning attempts (one call to a provider each)."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import BigInt, CreatedAt, Fingerprint, Id, Instant, Sealed, String, one_of

PROFILE_STATUSES = ("pending", "provisioning", "provisioned", "refused", "unknown", "cancelled")
PROFILE_STATES = ("released", "downloaded", "installed", "enabled", "disabled", "deleted")
PLAN_STATES = ("not_started", "active", "depleted", "expired", "terminated")

ATTEMPT_OUTCOMES = ("delivered", "accepted", "refused", "not_sent", "held_off", "unknown", "surplus")
"""
What an attempt left behind. `not_sent`: the provider surely got nothing. `held_off`: it answered 429 and accepted nothing.
`surplus`: a late answer brought an eSIM that the order no longer needed.
"""

OUTCOMES_THAT_MAY_COST = ("delivered", "accepted", "unknown", "surplus")
MAY_HAVE_SPENT = f"is_live AND (outcome IS NULL OR {one_of('outcome', OUTCOMES_THAT_MAY_COST)})"
"""Of attempts: those that count against the spend caps. An open one may be buying at this moment."""


class EsimProfile(Base):
    """What an order becomes. The row exists from the order on; its three axes of state are independent of each other."""

    __tablename__ = "esim_profiles"
    __table_args__ = (
        UniqueConstraint("order_id"),
        CheckConstraint(one_of("status", PROFILE_STATUSES), name="status"),
        CheckConstraint(one_of("profile_state", PROFILE_STATES), name="profile_state"),
        CheckConstraint(one_of("plan_state", PLAN_STATES), name="plan_state"),
        CheckConstraint(
            "(status = 'provisioned') = (provisioned_at IS NOT NULL) "
            "AND (status = 'provisioned') = (activation_code IS NOT NULL)",
            name="provisioned_is_whole",
        ),
        CheckConstraint("data_used_mb >= 0 AND data_total_mb >= 0", name="usage_not_negative"),
        Index("uq_esim_profiles_activation_code", "activation_code_fingerprint", unique=True),
        CheckConstraint(
            "(page_token IS NULL) = (page_token_hash IS NULL) AND (page_token IS NULL OR page_expires_at IS NOT NULL)",
            name="page_is_whole",
        ),
        Index("uq_esim_profiles_iccid", "iccid_fingerprint", unique=True),
        Index(
            "uq_esim_profiles_page_token",
            "page_token_hash",
            unique=True,
            postgresql_where=text("page_token_hash IS NOT NULL"),
        ),
        Index("ix_esim_profiles_unsettled", "status", "id", postgresql_where=text("status <> 'provisioned'")),
        Index("ix_esim_profiles_expiring", "plan_expires_at", postgresql_where=text("plan_state = 'active'")),
    )

    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("orders.id"))
    status: Mapped[str] = mapped_column(Text, server_default="pending")
    is_live: Mapped[bool] = mapped_column(Boolean)
    """Whether money was (or would be) spent on it: LOCAL and dry runs are not live."""
    provider: Mapped[String]
    provider_reference: Mapped[String | None]
    provisioned_at: Mapped[Instant | None]
    activation_code: Mapped[Sealed | None]
    activation_code_fingerprint: Mapped[Fingerprint | None]
    iccid: Mapped[Sealed | None]
    iccid_fingerprint: Mapped[Fingerprint | None]
    qr_code: Mapped[Sealed | None]
    """What the provider wants in the QR, where it said so."""
    instructions: Mapped[Sealed | None]
    provider_payload: Mapped[Sealed | None]
    """The last body that the provider sent, of whatever class."""
    warnings: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    profile_state: Mapped[String | None]
    profile_state_at: Mapped[Instant | None]
    """The provider's time of the newest event of this axis; older ones change nothing."""
    plan_state: Mapped[String | None]
    plan_state_at: Mapped[Instant | None]
    """The same of that axis."""
    data_used_mb: Mapped[float | None]
    data_total_mb: Mapped[float | None]
    usage_at: Mapped[Instant | None]
    """The provider's time of the newest usage."""
    page_token: Mapped[Sealed | None]
    """What the install page's address ends with; None where there never was one, or it was withdrawn."""
    page_token_hash: Mapped[Fingerprint | None]
    """Its SHA-256, by which a visitor's is found."""
    page_expires_at: Mapped[Instant | None]
    """Past it (database time) the page is no longer shown. None only where there never was one."""
    plan_active_at: Mapped[Instant | None]
    """When the plan was first used, by the provider's clock."""
    plan_expires_at: Mapped[Instant | None]
    """When its days are over, as far as is known: they are counted from `plan_active_at`."""
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class ProvisioningAttempt(Base):
    """One call to a provider: what was asked, by whom, until when, and every word of the answer."""

    __tablename__ = "provisioning_attempts"
    __table_args__ = (
        CheckConstraint(one_of("outcome", ATTEMPT_OUTCOMES), name="outcome"),
        CheckConstraint("(outcome IS NULL) = (closed_at IS NULL)", name="closed_has_outcome"),
        # The promise's last line of defence: whatever the code does, an order has one call under way.
        Index("uq_provisioning_attempts_open", "profile_id", unique=True, postgresql_where=text("outcome IS NULL")),
        Index("ix_provisioning_attempts_deadline", "deadline_at", postgresql_where=text("outcome IS NULL")),
        Index("ix_provisioning_attempts_profile_id", "profile_id", "id"),
        Index("ix_provisioning_attempts_spending", "opened_at", postgresql_where=text(MAY_HAVE_SPENT)),
    )

    id: Mapped[Id]
    profile_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("esim_profiles.id"))
    provider: Mapped[String]
    is_live: Mapped[bool]
    reference: Mapped[String]
    """Our stable name for the order towards the provider, `order-<id>`."""
    base_url: Mapped[String | None]
    partner_id: Mapped[String | None]
    request: Mapped[Sealed | None]
    """The exact body sent; None where only the intent journal tells of the attempt (after a restore)."""
    is_replay: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """The same order sent again to find out how an unknown attempt ended; the profile stays `unknown` meanwhile."""
    requested_by: Mapped[String]
    """Who asked, in the form of `audit_log.actor`."""
    opened_at: Mapped[CreatedAt]
    deadline_at: Mapped[Instant]
    """Past it (database time) an attempt without an outcome is one whose process died: the recovery sweep calls it unknown."""
    outcome: Mapped[String | None]
    """None while the call is under way."""
    problem: Mapped[String | None]
    """The problem type that the caller got, None after a success."""
    retry_after_s: Mapped[int | None]
    closed_at: Mapped[Instant | None]
    response_status: Mapped[int | None]
    response_body: Mapped[Sealed | None]
    error: Mapped[String | None]
    """What went wrong in words, redacted."""
    duration_ms: Mapped[BigInt | None]
