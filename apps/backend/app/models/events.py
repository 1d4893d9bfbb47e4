"""What providers tell by webhook: every event once, to the byte, and what became of it."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Fingerprint, Id, Sealed, String, one_of

EVENT_OUTCOMES = ("applied", "older", "parked", "odd")
"""
`applied`: it was the newest of its axis. `older`: something newer was known. `parked`: it names an ICCID that isn't ours (yet).
`odd`: it can't be understood, or not be believed.
"""

IS_OPEN = "outcome IS NULL OR outcome = 'parked'"
"""Of events: those that an eSIM may still take up."""

ASIDE = ("parked", "odd")
"""Outcomes that a person looks for: few among very many."""


class ReceivedEvent(Base):
    """An event of a provider. Duplicates leave no row."""

    __tablename__ = "provider_events"
    __table_args__ = (
        UniqueConstraint("provider", "fingerprint"),
        CheckConstraint(one_of("outcome", EVENT_OUTCOMES), name="outcome"),
        CheckConstraint("(outcome IS NULL) = (settled_at IS NULL)", name="settled_has_outcome"),
        CheckConstraint("outcome NOT IN ('applied', 'older') OR profile_id IS NOT NULL", name="applied_has_profile"),
        Index("ix_provider_events_open", "iccid_fingerprint", postgresql_where=text(IS_OPEN)),
        Index("ix_provider_events_aside", "outcome", "id", postgresql_where=text(one_of("outcome", ASIDE))),
        Index("ix_provider_events_profile_id", "profile_id", "id", postgresql_where=text("profile_id IS NOT NULL")),
    )

    id: Mapped[Id]
    provider: Mapped[String]
    fingerprint: Mapped[Fingerprint]
    """Of `ProviderEvent.key`: by it a second delivery is known."""
    body: Mapped[Sealed]
    """As it was received; it is read anew whenever it is worked on."""
    kind: Mapped[String | None]
    """The provider's own word for its type; None where it is no plain word."""
    iccid_fingerprint: Mapped[Fingerprint | None]
    at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """The provider's time; None where it gave none."""
    received_at: Mapped[CreatedAt]
    outcome: Mapped[String | None]
    """None until its job has looked at it."""
    warnings: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    """What is odd about it."""
    profile_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("esim_profiles.id"))
    settled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
