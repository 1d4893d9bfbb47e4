"""Ours ↔ ConnectedYou's, without side effects. What comes back is parsed without trust: it may not crash us, nothing is invented."""

import codecs
import json
from typing import Any

from app.services.esim_providers.contract import Answer, Delivered, ProvisionRequest, SupplierOutcomeUnknown, quoted
from app.values.activation_code import ActivationCode, UnusableActivationCode
from app.values.iccid import Iccid

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

    echoed = data.get("orderReference")
    if isinstance(echoed, str) and echoed != reference:
        raise SupplierOutcomeUnknown(
            f"ConnectedYou answered {reference} with another order's reference: {quoted(answer)}", answer=answer
        )
    if not isinstance(echoed, str):
        echoed = None
        warnings.append("order-reference-missing")

    code_text = data.get("activationCode")
    try:
        code = ActivationCode.read(code_text if isinstance(code_text, str) else "")
    except UnusableActivationCode as error:
        raise SupplierOutcomeUnknown(
            f"ConnectedYou answered {reference} without a usable activationCode: {quoted(answer)}", answer=answer
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
        body = json.loads(_decoded(answer.body), parse_int=_number, parse_float=_number, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise SupplierOutcomeUnknown(
            f"ConnectedYou's answer is not readable JSON: {quoted(answer)}", answer=answer
        ) from error
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        raise SupplierOutcomeUnknown(f"ConnectedYou's answer holds no order: {quoted(answer)}", answer=answer)
    return data


def _decoded(body: bytes) -> str:
    """JSON's text: UTF-8 with or without a byte-order mark, or what `json` recognises as UTF-16 or UTF-32."""
    encoding = "utf-8-sig" if body.startswith(codecs.BOM_UTF8) else json.detect_encoding(body)
    return body.decode(encoding)


def _number(text: str) -> str:
    """Numbers stay text: an ICCID sent as a number keeps all its digits, and no number is too long or too large to read."""
    return text


def _read_iccid(value: object, warnings: list[str]) -> Iccid | None:
    if value is None:
        warnings.append("iccid-missing")
        return None
    if not isinstance(value, str) or not value.strip():
        warnings.append("iccid-unreadable")
        return None
    iccid = Iccid.read(value)
    warnings.extend(iccid.warnings)
    return iccid


def _read_qr_code(value: object, code: ActivationCode, warnings: list[str]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_QR_TEXT:
        warnings.append("qr-code-unreadable")
        return None
    if value not in {code.text, code.lpa}:
        warnings.append("qr-code-differs")
    return _speakable(value)


def _read_instructions(value: object, warnings: list[str]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        warnings.append("instructions-unreadable")
        return None
    return _speakable(value)


def _speakable(text: str) -> str:
    """JSON can spell half a character (RFC 8259 section 8.2), which nothing further on can write: replaced by `?`."""
    return text.encode("utf-8", "replace").decode()
