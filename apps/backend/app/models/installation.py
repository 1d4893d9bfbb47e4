"""What an installation knows of itself and of its providers."""

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, Integer, LargeBinary, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Instant, Sealed, String


class Installation(Base):
    """One row. Holds the key of all fingerprints, sealed with the first encryption key."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    fingerprint_key: Mapped[Sealed]
    identity: Mapped[str] = mapped_column(Text, server_default=text("(gen_random_uuid())::text"))
    """This database's name for good, backups of it included: the intent journal is bound to it. No secret."""
    held_since: Mapped[Instant | None]
    """The database is older than the intent journal: nothing is sent, and no order taken, until `tribi recover`."""
    created_at: Mapped[CreatedAt]


class EncryptionKey(Base):
    """Names of the keys that something in this database is sealed with. A start without one of them stops."""

    __tablename__ = "encryption_keys"

    key_id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    created_at: Mapped[CreatedAt]
    in_use_until: Mapped[Instant | None]
    """Some process has it in front, and seals with it until then at least; while it runs it renews that (`app.house`)."""


class ProviderState(Base):
    """What holds a provider back, for all processes."""

    __tablename__ = "provider_states"
    __table_args__ = (
        CheckConstraint(
            "(circuit_opened_at IS NULL) = (circuit_reason IS NULL) AND (circuit_opened_at IS NULL) = (probe_at IS NULL)",
            name="open_circuit_is_whole",
        ),
        CheckConstraint(
            "(paused_at IS NULL) = (paused_by IS NULL) AND (paused_at IS NULL) = (pause_reason IS NULL)",
            name="pause_is_whole",
        ),
    )

    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    rate_limited_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """The provider answered 429 with `Retry-After`: nothing is sent before then."""
    paused_at: Mapped[Instant | None]
    """A person wants nothing to be sent, since then and until a person says otherwise; None where nobody does."""
    paused_by: Mapped[String | None]
    """Who, in the form of `audit_log.actor`."""
    pause_reason: Mapped[String | None]
    failures_in_a_row: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Calls in a row that failed for the provider's sake and not for one order's."""
    circuit_opened_at: Mapped[Instant | None]
    """Nothing is sent but probes since then; None while the circuit is closed."""
    circuit_reason: Mapped[String | None]
    """The problem type of the failure that opened it."""
    probe_at: Mapped[Instant | None]
    """From when on one call may go out to see whether the provider is well again."""
    failed_probes: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
