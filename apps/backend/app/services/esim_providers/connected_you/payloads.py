"""Ours ↔ ConnectedYou's, without side effects. What comes back is parsed without trust: it can't crash us, nothing is invented."""

import json
from typing import Any, TypeGuard

from app.services.esim_providers.contract import Answer, Delivered, ProvisionRequest, SupplierOutcomeUnknown
from app.values.activation_code import ActivationCode, UnusableActivationCode
from app.values.iccid import REFORMATTED, Iccid

_LONGEST_QR_TEXT = 1000
"""Longer texts than this make codes that no phone's camera reads."""


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

    echoed = _read_reference(data.get("orderReference"), warnings)
    if echoed is not None and echoed != reference:
        if echoed.strip().lower() != reference:
            raise SupplierOutcomeUnknown(
                f"ConnectedYou answered {reference} with another order's reference", answer=answer
            )
        warnings.append("order-reference-reformatted")

    code_text = data.get("activationCode")
    try:
        code = ActivationCode.read(code_text if isinstance(code_text, str) else "")
    except UnusableActivationCode as error:
        raise SupplierOutcomeUnknown(
            f"ConnectedYou answered {reference} without a usable activationCode", answer=answer
        ) from error
    warnings.extend(code.warnings)

    iccid = _read_iccid(data.get("iccid"), warnings)
    return Delivered(
        activation_code=code,
        answer=answer,
        provider_reference=echoed,
        iccid=iccid,
        qr_code=_read_qr_code(data.get("qrCode"), code, warnings),
        instructions=_read_instructions(data.get("instructions"), warnings),
        warnings=tuple(warnings),
    )


def _data_of(answer: Answer) -> dict[str, Any]:
    try:
        # Bytes that are no UTF-8, and raw control characters, are let through: the code stands beside them. Within the code
        # the former become surrogates, which no code holds.
        text = answer.body.decode(json.detect_encoding(answer.body), "surrogateescape")
        body = json.loads(text, strict=False, parse_int=_Number, parse_float=_Number)
    except (ValueError, RecursionError) as error:
        raise SupplierOutcomeUnknown("ConnectedYou's answer is not readable JSON", answer=answer) from error
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        raise SupplierOutcomeUnknown("ConnectedYou's answer holds no order", answer=answer)
    return data


class _Number(str):
    """Numbers stay as written: an ICCID sent as a number keeps all its digits, and no number is too long or too large to read."""

    __slots__ = ()


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and not isinstance(value, _Number)


def _read_reference(value: object, warnings: list[str]) -> str | None:
    # A number is read, too: it may be another order's.
    if isinstance(value, str) and value.strip():
        return value
    warnings.append("order-reference-missing")
    return None


def _read_iccid(value: object, warnings: list[str]) -> Iccid | None:
    if value is None:
        warnings.append("iccid-missing")
        return None
    if not isinstance(value, str) or not value.strip():
        warnings.append("iccid-unreadable")
        return None
    iccid = Iccid.read(value)
    if isinstance(value, _Number) and iccid.digits:
        warnings.append(REFORMATTED)
    warnings.extend(iccid.warnings)
    return iccid


def _read_qr_code(value: object, code: ActivationCode, warnings: list[str]) -> str | None:
    if value is None:
        return None
    if not _is_text(value) or not value.strip() or len(value) > _LONGEST_QR_TEXT:
        warnings.append("qr-code-unreadable")
        return None
    if value not in {code.text, code.lpa}:
        warnings.append("qr-code-differs")
    return _speakable(value)


def _read_instructions(value: object, warnings: list[str]) -> str | None:
    if value is None:
        return None
    if not _is_text(value):
        warnings.append("instructions-unreadable")
        return None
    return _speakable(value)


def _speakable(text: str) -> str:
    """JSON can spell half a character (RFC 8259 section 8.2), which nothing further on can write: replaced by `?`."""
    return text.encode("utf-8", "replace").decode()
