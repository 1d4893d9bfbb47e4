"""Messages to travellers: what was to be sent, and what became of it."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Id, String, one_of

MAIL_KINDS = ("instructions",)


class OutgoingMail(Base):
    """One message of a kind for an eSIM. The job that sends it may run twice; the message is sent once."""

    __tablename__ = "outgoing_mails"
    __table_args__ = (
        UniqueConstraint("profile_id", "kind"),
        CheckConstraint(one_of("kind", MAIL_KINDS), name="kind"),
        CheckConstraint("sent_at IS NULL OR refused_at IS NULL", name="one_ending"),
    )

    id: Mapped[Id]
    profile_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("esim_profiles.id"))
    kind: Mapped[String]
    created_at: Mapped[CreatedAt]
    leased_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """Somebody is sending it until then (database time)."""
    sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    refused_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """The mail server said no for good."""
    error: Mapped[String | None]
    """What the mail server said last, redacted."""
