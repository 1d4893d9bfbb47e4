"""Ours ↔ the toy supplier's. It spells everything in its own way, and gives the code in two halves."""

import json
from typing import Any

from app.services.esim_providers import reading
from app.services.esim_providers.contract import Answer, Delivered, ProvisionRequest, SupplierOutcomeUnknown


def order_body(request: ProvisionRequest, *, product: str) -> bytes:
    traveller = {"mail": request.customer_email, "full_name": request.customer_name}
    body = {
        "external_id": request.reference,
        "product": product,
        "country": request.country_iso2,
        "traveller": traveller,
    }
    return json.dumps(body).encode("ascii")


def traveller_of(body: bytes) -> tuple[str, str]:
    """What may not be repeated of an order: address and name."""
    traveller = json.loads(body)["traveller"]
    return traveller["mail"], traveller["full_name"]


def read_delivered(answer: Answer, reference: str) -> Delivered:
    """Raises SupplierOutcomeUnknown where no code that could be this order's is in it."""
    esim = _esim_of(answer)
    warnings: list[str] = []
    halves = [half for half in (esim.get("smdp"), esim.get("matching_id")) if reading.is_text(half)]
    whole = "$".join(("LPA:1", *halves)) if len(halves) == 2 else None
    try:
        echoed = reading.read_reference(esim.get("external_id"), reference, warnings)
        code = reading.read_activation_code(whole, warnings)
    except reading.NotThisOrders as error:
        raise SupplierOutcomeUnknown(f"Toy answered {reference} {error}", answer=answer) from error
    return Delivered(
        activation_code=code,
        answer=answer,
        provider_reference=echoed,
        iccid=reading.read_iccid(esim.get("iccid"), warnings),
        warnings=tuple(warnings),
    )


def _esim_of(answer: Answer) -> dict[str, Any]:
    try:
        body = reading.read_json(answer)
    except ValueError as error:
        raise SupplierOutcomeUnknown("Toy's answer is not readable JSON", answer=answer) from error
    esim = body.get("esim") if isinstance(body, dict) else None
    if not isinstance(esim, dict):
        raise SupplierOutcomeUnknown("Toy's answer holds no eSIM", answer=answer)
    return esim
