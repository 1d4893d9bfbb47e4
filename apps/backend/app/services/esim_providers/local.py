"""LOCAL: issues codes by itself, for shops under construction. No money, no network, no eSIM that a phone could load."""

import json
import uuid
from collections.abc import Callable
from typing import ClassVar

from app.services.esim_providers.contract import (
    Answer,
    Capabilities,
    Dedupe,
    Delivered,
    Lookup,
    PreparedOrder,
    ProvisionRequest,
)
from app.values.activation_code import ActivationCode

_SMDP_ADDRESS = "LOCAL.TRIBI.INVALID"
"""A name that can't resolve (RFC 2606 section 2): nobody's phone will ask a stranger's server for it."""


class Local:
    """Every activation succeeds at once with a new UUID-based code; there is no reference and no ICCID."""

    name: ClassVar[str] = "LOCAL"
    capabilities: ClassVar[Capabilities] = Capabilities(
        needs_plan_code=False, dedupe=Dedupe.UNKNOWN, lookup=Lookup.NONE
    )
    is_live = False
    base_url = None
    partner_id = None

    def prepare(self, request: ProvisionRequest) -> PreparedOrder:
        body = json.dumps({"orderReference": request.reference, "plan_name": request.plan_name})
        return PreparedOrder(request.reference, body.encode())

    async def provision(self, order: PreparedOrder, *, may_send: Callable[[], bool]) -> Delivered:  # noqa: ARG002 - nothing is sent
        code = ActivationCode.make(_SMDP_ADDRESS, str(uuid.uuid4()).upper())
        payload = {"provider": self.name, "orderReference": order.reference, "activationCode": code.text}
        return Delivered(
            activation_code=code,
            answer=Answer(None, json.dumps(payload).encode()),
            instructions="This is a test eSIM made by Tribi itself. It cannot be installed.",
        )

    async def close(self) -> None:
        pass
