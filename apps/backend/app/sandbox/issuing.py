"""Made-up eSIMs: well-formed, always the same for the same order, and worthless."""

import hashlib
from dataclasses import dataclass, field

from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid, luhn_digit

SMDP_ADDRESS = "SANDBOX.TRIBI.INVALID"
"""A name that can't resolve (RFC 2606 section 2): no handset installs what comes from the sandbox."""

_INSTRUCTIONS = (
    "TEST: this eSIM comes from tribi sandbox and cannot be installed. "
    "A real one is installed in the phone's settings under Mobile data, Add eSIM."
)


@dataclass(frozen=True, slots=True)
class Esim:
    """An eSIM that was issued and billed."""

    activation_code: str = field(repr=False)
    iccid: str = field(repr=False)


def issue(order_reference: str, plan_code: str, nth: int) -> Esim:
    """
    The eSIM of an order.

    Args:
        nth: which purchase of this reference it is, from 1: a repeated one buys another eSIM.
    """
    seed = hashlib.sha256(f"{order_reference}\n{plan_code}\n{nth}".encode("utf-8", "surrogatepass")).digest()
    # 89 is telecommunications, 999 no country's code (E.118 section 4): nobody's real card has such a number.
    iccid = Iccid.make(f"89999{int.from_bytes(seed[:8], 'big') % 10**13:013d}")
    return Esim(ActivationCode.make(SMDP_ADDRESS, seed[8:18].hex().upper()).lpa, iccid.text)


def odd(esim: Esim) -> Esim:
    """As the blueprint's sample: a code without an SM-DP+ address, an ICCID with a wrong check digit."""
    body = esim.iccid[:-1]
    wrong_digit = str((int(luhn_digit(body)) + 1) % 10)
    return Esim(f"LPA:1${esim.activation_code.rpartition('$')[2]}", body + wrong_digit)


def with_confirmation_code(esim: Esim) -> Esim:
    """Its fifth field says that the handset will ask for one (SGP.22 section 4.1)."""
    return Esim(f"{esim.activation_code}$$1", esim.iccid)


def answer(order_reference: str, esim: Esim) -> dict[str, dict[str, str]]:
    """The body of a good answer (the contract's Provisioned)."""
    return {
        "data": {
            "orderReference": order_reference,
            "activationCode": esim.activation_code,
            "iccid": esim.iccid,
            "qrCode": esim.activation_code,
            "instructions": _INSTRUCTIONS,
        }
    }
