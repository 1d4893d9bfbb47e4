"""Who did what, when: one row for every act of staff and of keys, and for every turn in an eSIM's life."""

from typing import Any

from sqlalchemy import BigInteger, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Id, String


class AuditEntry(Base):
    __tablename__ = "audit_log"
    __table_args__ = (Index("ix_audit_log_subject", "subject_type", "subject_id", "id"),)

    id: Mapped[Id]
    at: Mapped[CreatedAt]
    actor: Mapped[String]
    """`key:<id>`, `traveller:<id>`, `cli:<login name>`, `provider:<name>`, or `system`."""
    tag: Mapped[String]
    """One of `app.audit.Tag`."""
    subject_type: Mapped[String]
    subject_id: Mapped[int | None] = mapped_column(BigInteger)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    request_id: Mapped[String | None]
