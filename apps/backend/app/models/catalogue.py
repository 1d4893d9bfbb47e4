"""What is sold, and under which code each provider sells it."""

from typing import Any

from sqlalchemy import ARRAY, BigInteger, Boolean, CheckConstraint, ForeignKey, Text, UniqueConstraint, func, true
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import BigInt, CreatedAt, Id, Instant, String


class Plan(Base):
    """A plan: data in a country, or in several, for a number of days."""

    __tablename__ = "plans"
    __table_args__ = (
        UniqueConstraint("sku"),
        CheckConstraint("sku <> ''", name="sku_given"),
        CheckConstraint("country_iso2 ~ '^[A-Z]{2}$'", name="country_iso2"),
        CheckConstraint(
            "array_to_string(other_countries, ' ', '?') ~ '^([A-Z]{2}( [A-Z]{2})*)?$' "
            "AND country_iso2 <> ALL (other_countries)",
            name="other_countries",
        ),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("price_minor >= 0", name="price_not_negative"),
        CheckConstraint("data_mb > 0", name="data_positive"),
        CheckConstraint("validity_days > 0", name="validity_positive"),
    )

    id: Mapped[Id]
    sku: Mapped[String]
    name: Mapped[String]
    country_iso2: Mapped[String]
    """The primary one of a plan for several countries: what a provider that asks for one country is told."""
    other_countries: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    """Where else the data can be used; empty for a plan for one country."""
    data_mb: Mapped[BigInt]
    validity_days: Mapped[int]
    price_minor: Mapped[BigInt]
    currency: Mapped[String]
    is_on_sale: Mapped[bool] = mapped_column(Boolean, server_default=true())
    """False once an import with `--replace` left it out: sold orders keep their snapshot, nobody can buy it any more."""
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[Instant] = mapped_column(server_default=func.now())

    def plan_snapshot(self, provider: str | None, external_id: str | None) -> dict[str, Any]:
        """
        The plan as an order keeps it for ever.

        Args:
            provider: whose code `external_id` is, None for a provider that needs none.
            external_id: the provider's code for the plan (ConnectedYou's `planCode`).
        """
        return {
            "sku": self.sku,
            "name": self.name,
            "country_iso2": self.country_iso2,
            "countries": [self.country_iso2, *self.other_countries],
            "data_mb": self.data_mb,
            "validity_days": self.validity_days,
            "price_minor": self.price_minor,
            "currency": self.currency,
            "provider": provider,
            "external_id": external_id,
        }


class PlanCode(Base):
    """A provider's code for a plan, and what the plan costs us there."""

    __tablename__ = "plan_codes"
    __table_args__ = (
        CheckConstraint("external_id <> ''", name="external_id_given"),
        CheckConstraint("cost_minor >= 0", name="cost_not_negative"),
    )

    plan_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("plans.id", ondelete="CASCADE"), primary_key=True)
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    external_id: Mapped[String]
    cost_minor: Mapped[BigInt | None]
    updated_at: Mapped[Instant] = mapped_column(server_default=func.now())
