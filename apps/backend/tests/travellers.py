"""Valid eSIMs as their travellers' page sees them, made with one call."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from app.services.esims.esim import Esim
from app.services.esims.installing import Installing
from app.values.activation_code import ActivationCode

NOW = datetime(2026, 11, 3, 14, 5, tzinfo=UTC)
CODE = "LPA:1$SMDP.EXAMPLE.COM$A1B2-C3D4-E5F6"
PLAN = {"sku": "es-5gb", "name": "Iberia 5", "country_iso2": "ES", "data_mb": 5120, "validity_days": 30}
_OF_ESIM = {one.name for one in fields(Esim)}


def an_installing(*, code: str = CODE, status: str = "provisioned", **values: Any) -> Installing:
    """Ordered a minute ago, live; anything of an `Esim` or an `Installing` can be said otherwise."""
    read = ActivationCode.read(code) if status == "provisioned" else None
    esim: dict[str, Any] = {
        "id": 12,
        "order_id": 4711,
        "status": status,
        "is_live": True,
        "provider": "CONNECTED_YOU",
        "provider_reference": "order-4711",
        "provisioned_at": NOW if read else None,
        "activation_code": read,
        "iccid": "8999900000000000003" if read else None,
        "qr_code": read.lpa if read else None,
        "instructions": None,
        "profile_state": None,
        "plan_state": "not_started" if read else None,
        "data_used_mb": None,
        "data_total_mb": None,
        "usage_at": None,
        "warnings": (),
        "page_token": "a" * 32,
    }
    of_page: dict[str, Any] = {
        "order_status": "paid",
        "plan_snapshot": PLAN,
        "customer_locale": None,
        "ordered_at": NOW - timedelta(minutes=1),
        "ends_at": None,
        "now": NOW,
    }
    for name, value in values.items():
        (esim if name in _OF_ESIM else of_page)[name] = value
    return Installing(esim=Esim(**esim), **of_page)
