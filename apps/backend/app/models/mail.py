"""Messages to travellers: what was to be sent, and what became of it; and the thresholds that one is told of once."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Id, String, one_of

THRESHOLDS = ("data_50", "data_80", "data_100", "expires_24h")
"""`data_N`: so many percent of the plan's data are used. `expires_24h`: the plan ends within 24 hours."""

NOTICES = ("data_80", "data_100", "expires_24h")
"""Thresholds that the traveller is mailed of. Half of the data is no news to somebody who travels."""

MAIL_KINDS = ("instructions", "resend", *NOTICES)
"""`instructions`: what installs the eSIM, sent by itself. `resend`: the same, because somebody asked for it."""


class OutgoingMail(Base):
    """One message for an eSIM. The job that sends it may run twice; the message is sent once."""

    __tablename__ = "outgoing_mails"
    __table_args__ = (
        Index("uq_outgoing_mails_profile_id_kind_number", "profile_id", "kind", "number", unique=True),
        Index("ix_outgoing_mails_refused", "refused_at", postgresql_where=text("refused_at IS NOT NULL")),
        CheckConstraint(one_of("kind", MAIL_KINDS), name="kind"),
        CheckConstraint("sent_at IS NULL OR refused_at IS NULL", name="one_ending"),
    )

    id: Mapped[Id]
    profile_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("esim_profiles.id"))
    kind: Mapped[String]
    number: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """1 and up for each `resend` of an eSIM; 0 for all others, of which there is one each."""
    created_at: Mapped[CreatedAt]
    leased_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """Somebody is sending it until then (database time)."""
    sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    refused_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """The mail server said no for good: it bounced in the SMTP dialogue."""
    error: Mapped[String | None]
    """What the mail server said last, redacted."""


class CrossedThreshold(Base):
    """A threshold that an eSIM has crossed, whoever noticed it: its row is what makes the news of it go out once."""

    __tablename__ = "crossed_thresholds"
    __table_args__ = (
        PrimaryKeyConstraint("profile_id", "threshold"),
        CheckConstraint(one_of("threshold", THRESHOLDS), name="threshold"),
    )

    profile_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("esim_profiles.id"))
    threshold: Mapped[str] = mapped_column(Text)
    crossed_at: Mapped[CreatedAt]
