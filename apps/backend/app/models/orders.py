"""Orders: one plan for one customer, with the plan frozen as it was sold."""

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import BigInt, CreatedAt, Id, String, one_of

ORDER_STATUSES = ("paid", "cancelled", "refunded")

OWNER = 'lower(customer_email COLLATE "C")'
"""The address by which a traveller's orders are found, in the form of `address_key`. "C": ASCII alone, in any database."""


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint(one_of("status", ORDER_STATUSES), name="status"),
        CheckConstraint("amount_minor >= 0", name="amount_not_negative"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        Index("ix_orders_owner", text(OWNER), "id"),
    )

    id: Mapped[Id]
    status: Mapped[String]
    plan_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("plans.id", ondelete="SET NULL"))
    plan_snapshot: Mapped[dict[str, Any]] = mapped_column(JSONB)
    amount_minor: Mapped[BigInt]
    currency: Mapped[String]
    customer_email: Mapped[String]
    customer_name: Mapped[String]
    customer_locale: Mapped[String | None]
    """BCP 47, as `app.values.locales` reads it; None where the storefront didn't say."""
    payment_reference: Mapped[String]
    placed_by_key_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("service_keys.id"))
    created_at: Mapped[CreatedAt]


class IdempotencyKey(Base):
    """`Idempotency-Key`s of placed orders: one space for the installation, never forgotten."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the request's canonical body."""
    order_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("orders.id"), unique=True)
    created_at: Mapped[CreatedAt]
