"""Reading what a supplier says of an eSIM, member by member, without trust: it can't crash us, and nothing is invented. Pure.

Money was spent by the time that there is something to read. So what is odd is taken and flagged in `warnings`; only where no code
that could be this order's can be had, the outcome is not known.
"""

import json
import math
from typing import TypeGuard

from app.services.esim_providers.contract import Answer
from app.values.activation_code import ActivationCode, UnusableActivationCode
from app.values.iccid import REFORMATTED, Iccid

_LONGEST_QR_TEXT = 1000
"""Longer texts than this make codes that no phone's camera reads."""


class NotThisOrders(ValueError):
    """No usable code, or another order's answer. `str()` ends a sentence that begins "SUPPLIER answered order-1"."""


def read_json(answer: Answer) -> object:
    """
    The body, read as leniently as can be. Numbers come as text, as they were written.

    Raises:
        ValueError: it is no JSON, or too deep.
    """
    try:
        # Bytes that are no UTF-8, and raw control characters, are let through: the code stands beside them. Within the code
        # the former become surrogates, which no code holds.
        text = answer.body.decode(json.detect_encoding(answer.body), "surrogateescape")
        body: object = json.loads(text, strict=False, parse_int=_Number, parse_float=_Number)
    except RecursionError as error:
        raise ValueError("too deep") from error
    return body


class _Number(str):
    """Numbers stay as written: an ICCID sent as a number keeps all its digits, and no number is too long or too large to read."""

    __slots__ = ()


def is_text(value: object) -> TypeGuard[str]:
    """Whether it was text in the JSON."""
    return isinstance(value, str) and not isinstance(value, _Number)


def read_number(value: object) -> float | None:
    """A number of the JSON; None where it was none, or none that a machine can hold."""
    if not isinstance(value, _Number):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def read_reference(value: object, reference: str, warnings: list[str]) -> str | None:
    """
    The supplier's echo of our reference, None where there is none.

    Raises:
        NotThisOrders: it is another order's.
    """
    # A number is read, too: it may be another order's.
    if not isinstance(value, str) or not value.strip():
        warnings.append("order-reference-missing")
        return None
    if value != reference:
        if value.strip().lower() != reference:
            raise NotThisOrders("with another order's reference")
        warnings.append("order-reference-reformatted")
    return value


def read_activation_code(value: object, warnings: list[str]) -> ActivationCode:
    """Raises NotThisOrders where it is no usable one."""
    try:
        code = ActivationCode.read(value)
    except UnusableActivationCode as error:
        raise NotThisOrders("without a usable activationCode") from error
    warnings.extend(code.warnings)
    return code


def read_iccid(value: object, warnings: list[str]) -> Iccid | None:
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


def read_qr_code(value: object, code: ActivationCode, warnings: list[str]) -> str | None:
    """What the QR shall encode; None for the code itself."""
    if value is None:
        return None
    if not is_text(value) or not value.strip() or len(value) > _LONGEST_QR_TEXT:
        warnings.append("qr-code-unreadable")
        return None
    if value not in {code.text, code.lpa}:
        warnings.append("qr-code-differs")
    return _speakable(value)


def read_instructions(value: object, warnings: list[str]) -> str | None:
    if value is None:
        return None
    if not is_text(value):
        warnings.append("instructions-unreadable")
        return None
    return _speakable(value)


def _speakable(text: str) -> str:
    """JSON can spell half a character (RFC 8259 section 8.2), which nothing further on can write: replaced by `?`."""
    return text.encode("utf-8", "replace").decode()
