"""Letters as messages are made of; a test names only what it is about."""

from datetime import UTC, datetime
from typing import Any

from app.services.esims.esim import Esim
from app.services.messages.letter import Letter
from app.services.orders.show import OrderView
from app.settings import Settings
from app.values.activation_code import ActivationCode

CODE = "LPA:1$smdp.example.com$A1B2-C3D4"
PAGE = "https://esims.example.com/i/kJ8sQ2"


def a_letter(
    kind: str = "instructions",
    *,
    code: str = CODE,
    is_live: bool = True,
    locale: str | None = None,
    name: str = "Ana Traveller",
    email: str = "ana@example.com",
    plan: str = "Spain 5GB",
    page_url: str | None = PAGE,
    **esim: Any,
) -> Letter:
    read = ActivationCode.read(code)
    fields: dict[str, Any] = {
        "provider_reference": "order-7",
        "provisioned_at": datetime(2026, 11, 1, tzinfo=UTC),
        "iccid": None,
        "qr_code": read.lpa,
        "instructions": None,
        "profile_state": None,
        "plan_state": "active",
        "data_used_mb": None,
        "data_total_mb": None,
        "usage_at": None,
        "warnings": (),
        "page_token": None,
    }
    order = OrderView(
        id=7,
        status="paid",
        plan_snapshot={"name": plan, "data_mb": 5120, "validity_days": 30},
        amount_minor=1290,
        currency="EUR",
        customer_email=email,
        customer_name=name,
        customer_locale=locale,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
    )
    return Letter(
        kind=kind,
        number=0,
        written_at=datetime(2026, 11, 1, 12, tzinfo=UTC),
        esim=Esim(
            id=3,
            order_id=7,
            status="provisioned",
            is_live=is_live,
            provider="CONNECTED_YOU",
            activation_code=read,
            **fields | esim,
        ),
        order=order,
        page_url=page_url,
    )


def shop_settings(**more: Any) -> Settings:
    """Of a shop that has a name and a helpdesk."""
    shop = {"mail_from": "esims@example.com", "mail_from_name": "Viaje Móvil", "support_contact": "help@example.com"}
    return Settings(**shop | more)
