"""What the intent journal knew and a restored database had forgotten."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Instant, String


class ForgottenAttempt(Base):
    """
    An attempt that was made before the database was restored to an older state, by `tribi recover`.

    Numbers are those of the time before; the order may be gone, too. Then it is placed again under its old number, as unknown,
    when the storefront sends it again with its `Idempotency-Key`.
    """

    __tablename__ = "forgotten_attempts"
    __table_args__ = (Index("ix_forgotten_attempts_order_key", "order_key", postgresql_where=text("filed_as IS NULL")),)

    attempt_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    opened_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    reference: Mapped[String]
    order_id: Mapped[int] = mapped_column(BigInteger)
    placed_at: Mapped[Instant]
    provider: Mapped[String]
    order_key: Mapped[str] = mapped_column(Text)
    """Hash of the order's `Idempotency-Key`."""
    found_at: Mapped[CreatedAt]
    filed_as: Mapped[int | None] = mapped_column(BigInteger)
    """The attempt that stands for it; None as long as its order isn't there."""
