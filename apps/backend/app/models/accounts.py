"""Service keys: how a seller's storefront signs its calls."""

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, Index, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Id, String

SCOPES = ("orders", "esims", "webhooks")


class ServiceKey(Base):
    __tablename__ = "service_keys"
    __table_args__ = (
        CheckConstraint(f"scopes <@ ARRAY[{', '.join(map(repr, SCOPES))}]::text[]", name="scopes"),
        Index("uq_service_keys_secret_hash", "secret_hash", unique=True),
    )

    id: Mapped[Id]
    name: Mapped[String]
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the secret, which has 256 random bits: there is nothing to guess."""
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """To the minute: it is written at most once a minute, so that a busy key does not rewrite its row at each call."""
