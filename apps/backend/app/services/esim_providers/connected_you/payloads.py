"""Ours ↔ ConnectedYou's, without side effects. What comes back is parsed without trust: it can't crash us, nothing is invented."""

import json
from typing import Any

from app.services.esim_providers import reading
from app.services.esim_providers.contract import Answer, Delivered, ProvisionRequest, SupplierOutcomeUnknown


def order_body(request: ProvisionRequest, *, partner_id: str, plan_code: str) -> bytes:
    """The JSON body of POST /partners/orders (blueprint, section 2)."""
    body = {
        "partnerId": partner_id,
        "orderReference": request.reference,
        "planCode": plan_code,
        "countryIso2": request.country_iso2,
        "quantity": 1,
        "customer": {"email": request.customer_email, "name": request.customer_name},
        "metadata": {"order_id": request.order_id, "plan_name": request.plan_name},
    }
    return json.dumps(body).encode("ascii")


def read_delivered(answer: Answer, reference: str) -> Delivered:
    """
    Reads a 2xx body.

    Raises:
        SupplierOutcomeUnknown: there is no usable activation code in it, or it is about another order: money may have been
            spent, and only a person can tell.
    """
    data = _data_of(answer)
    warnings: list[str] = []
    try:
        echoed = reading.read_reference(data.get("orderReference"), reference, warnings)
        code = reading.read_activation_code(data.get("activationCode"), warnings)
    except reading.NotThisOrders as error:
        raise SupplierOutcomeUnknown(f"ConnectedYou answered {reference} {error}", answer=answer) from error
    return Delivered(
        activation_code=code,
        answer=answer,
        provider_reference=echoed,
        iccid=reading.read_iccid(data.get("iccid"), warnings),
        qr_code=reading.read_qr_code(data.get("qrCode"), code, warnings),
        instructions=reading.read_instructions(data.get("instructions"), warnings),
        warnings=tuple(warnings),
    )


def _data_of(answer: Answer) -> dict[str, Any]:
    try:
        body = reading.read_json(answer)
    except ValueError as error:
        raise SupplierOutcomeUnknown("ConnectedYou's answer is not readable JSON", answer=answer) from error
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        raise SupplierOutcomeUnknown("ConnectedYou's answer holds no order", answer=answer)
    return data
