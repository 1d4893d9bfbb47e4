"""Who may ask: service keys (a seller's storefront), and travellers with their sign-in codes and sessions."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, LargeBinary, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import BigInt, CreatedAt, Fingerprint, Id, Instant, Sealed, String

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


class SignInCode(Base):
    """A six-digit code that was asked for. There is a row for every address, whether or not it has orders."""

    __tablename__ = "sign_in_codes"
    __table_args__ = (
        CheckConstraint("tries >= 0", name="tries_not_negative"),
        Index("uq_sign_in_codes_request_hash", "request_hash", unique=True),
        Index("ix_sign_in_codes_expires_at", "expires_at"),
    )

    id: Mapped[Id]
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the request token, which has 256 random bits. Only who asked for the code can use it."""
    code_salt: Mapped[bytes] = mapped_column(LargeBinary)
    code_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """A password hash (`app.services.accounts.code_hash`): six digits are soon guessed."""
    address: Mapped[Sealed]
    """In the form of `travellers.address`."""
    code: Mapped[Sealed | None]
    """Until its message has left, or can't any more."""
    language: Mapped[String]
    """Of the message; "und" where who asked liked none of ours."""
    tries: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Instant]
    used_at: Mapped[Instant | None]
    leased_until: Mapped[Instant | None]
    """Somebody is sending its message until then (database time)."""
    sent_at: Mapped[Instant | None]


class Traveller(Base):
    """Somebody who has signed in. Their orders are those of their address."""

    __tablename__ = "travellers"
    __table_args__ = (Index("uq_travellers_address", "address", unique=True),)

    id: Mapped[Id]
    address: Mapped[String]
    """As `address_key` has it: in lower case, its domain in Unicode."""
    created_at: Mapped[CreatedAt]


class TravellerSession(Base):
    """A traveller's session. One that is signed out is gone."""

    __tablename__ = "traveller_sessions"
    __table_args__ = (
        Index("uq_traveller_sessions_token_hash", "token_hash", unique=True),
        Index("ix_traveller_sessions_traveller_id", "traveller_id"),
    )

    id: Mapped[Id]
    traveller_id: Mapped[BigInt] = mapped_column(BigInteger, ForeignKey("travellers.id"))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the token, which has 256 random bits."""
    created_at: Mapped[CreatedAt]
    last_used_at: Mapped[CreatedAt]
    """To the minute, as a key's."""
    ends_at: Mapped[Instant]
    """However much it is used (database time)."""


class RateLimit(Base):
    """A limit and whom it is for, as a token bucket (`app.rate_limits`)."""

    __tablename__ = "rate_limits"

    bucket: Mapped[Fingerprint] = mapped_column(primary_key=True)
    """Of the limit's name and an address, a client or a key."""
    free_at: Mapped[Instant]
    """When it is as good as new, and its row may go."""
