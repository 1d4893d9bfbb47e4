"""CONNECTED_YOU_DRY_RUN: no HTTP. Logs what would be sent and answers as ConnectedYou would, always the same for an order."""

import hashlib
import json
from collections.abc import Callable

import structlog

from app.services.esim_providers.contract import Answer, PreparedOrder
from app.services.esim_providers.statuses import Exchange
from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid

_SMDP_ADDRESS = "DRY-RUN.TRIBI.INVALID"
"""A name that can't resolve (RFC 2606 section 2)."""

log = structlog.get_logger()


class DryRun:
    """A `Line` that leads nowhere."""

    is_live = False

    async def send(self, order: PreparedOrder, may_send: Callable[[], bool]) -> Exchange:  # noqa: ARG002 - nothing is sent
        payload = json.loads(order.body)
        shown = payload | {"partnerId": "[redacted]", "customer": {"email": "[redacted]", "name": "[redacted]"}}
        log.info(
            "esim_providers.dry_run", provider="CONNECTED_YOU", url=f"{order.base_url}/partners/orders", payload=shown
        )
        return Exchange(Answer(None, json.dumps(fake_body(order)).encode()))

    def use_api_key(self, api_key: str) -> None:
        pass

    async def close(self) -> None:
        pass


def fake_body(order: PreparedOrder) -> dict[str, object]:
    """A well-formed answer that depends on the order's reference and plan only, marked `dry_run`."""
    plan_code = json.loads(order.body)["planCode"]
    seed = hashlib.sha256(f"{order.reference}\n{plan_code}".encode()).digest()
    number = int.from_bytes(seed[:8], "big")
    code = ActivationCode.make(_SMDP_ADDRESS, seed[8:18].hex().upper())
    # 89 is telecommunications, 999 no country's code (E.118 section 4): nobody's real card has such a number.
    iccid = Iccid.make(f"89999{number % 10**13:013d}")
    return {
        "data": {
            "orderReference": order.reference,
            "activationCode": code.lpa,
            "iccid": iccid.text,
            "qrCode": code.lpa,
            "instructions": "TEST: this eSIM comes from a dry run and cannot be installed. "
            "A real one is installed in the phone's settings under Mobile data, Add eSIM.",
        },
        "dry_run": True,
    }
