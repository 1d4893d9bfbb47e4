"""What one order buys: an eSIM whose code and ICCID follow from the order reference and how often it was bought."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

SMDP_ADDRESS = "RSP.STAND-IN.EXAMPLE"


@dataclass(frozen=True, slots=True)
class Issued:
    """One line of the ledger: an eSIM that exists and was billed, whatever the buyer heard of it."""

    reference: str
    activation_code: str
    iccid: str
    plan_code: str
    at: str
    seq: int

    def line(self) -> bytes:
        return json.dumps(asdict(self), ensure_ascii=True).encode() + b"\n"

    def answer(self) -> dict[str, Any]:
        """The body of a good answer, as the contract's Provisioned schema describes it."""
        return {
            "data": {
                "orderReference": self.reference,
                "activationCode": self.activation_code,
                "iccid": self.iccid,
                "qrCode": self.activation_code,
                "instructions": "Scan the QR code in your phone's eSIM settings.",
            }
        }


def luhn_digit(digits: str) -> str:
    """The check digit that ITU-T E.118 puts behind an ICCID's first 18 digits."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 if place % 2 else 2)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def activation_code(reference: str, nth: int) -> str:
    """SGP.22 4.1 in QR-code alphanumeric capitals; the reference is readable in it, which makes failures readable."""
    tail = hashlib.sha256(f"{reference}/{nth}".encode()).hexdigest()[:8].upper()
    return f"LPA:1${SMDP_ADDRESS}${re.sub('[^A-Z0-9]', '', reference.upper())}-{nth}-{tail}"


def iccid(reference: str, nth: int) -> str:
    """19 digits; unique while order numbers have at most 11 digits and an order is bought less than 1,000 times."""
    number = int(re.sub("[^0-9]", "", reference) or 0) % 10**11
    body = f"8910{number:011d}{nth % 1000:03d}"
    return body + luhn_digit(body)


def issue(reference: str, plan_code: str, nth: int, seq: int, code_of: Callable[[str], str] | None = None) -> Issued:
    """The eSIM of the nth purchase (from 1) of one reference; `code_of` makes its code an odd one."""
    code = activation_code(reference, nth)
    return Issued(
        reference=reference,
        activation_code=code_of(code) if code_of else code,
        iccid=iccid(reference, nth),
        plan_code=plan_code,
        at=datetime.now(UTC).isoformat(),
        seq=seq,
    )
