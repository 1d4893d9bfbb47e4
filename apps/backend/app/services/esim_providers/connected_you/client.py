"""The ConnectedYou provider: what it needs, what it sends, and what each answer means."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from app.redaction import redact
from app.services.esim_providers.connected_you.payloads import order_body, read_delivered
from app.services.esim_providers.contract import (
    Capabilities,
    Dedupe,
    Delivered,
    EsimProvisioningError,
    Lookup,
    PreparedOrder,
    ProvisionRequest,
    SupplierNotConfigured,
    operators_message,
)
from app.services.esim_providers.statuses import Exchange, raise_unless_successful


class Line(Protocol):
    """How an order reaches ConnectedYou: over HTTP, or not at all in a dry run."""

    is_live: bool

    async def send(self, order: PreparedOrder, may_send: Callable[[], bool]) -> Exchange:
        """Raises SupplierUnreachable (nothing was sent) or SupplierOutcomeUnknown (no whole answer came)."""

    def use_api_key(self, api_key: str) -> None:
        """From the next order on."""

    async def close(self) -> None: ...


CAPABILITIES = Capabilities(
    # What a repeated orderReference does is not stated (x-open in the draft contract), nor any look-up.
    needs_plan_code=True,
    dedupe=Dedupe.UNKNOWN,
    lookup=Lookup.NONE,
    has_events=True,
)


@dataclass(eq=False)
class ConnectedYou:
    """Source: integration blueprint of 2025-11-20, sections 1, 2, 3 and 5."""

    name: ClassVar[str] = "CONNECTED_YOU"
    credential_setting: ClassVar[str] = "connected_you_api_key"
    partner_id: str | None = field(repr=False)
    api_key: str | None = field(repr=False)
    base_url: str
    line: Line
    capabilities: Capabilities = CAPABILITIES
    _former_keys: tuple[str, ...] = field(default=(), init=False, repr=False)

    @property
    def is_live(self) -> bool:
        return self.line.is_live

    def prepare(self, request: ProvisionRequest) -> PreparedOrder:
        """As `EsimProvider.prepare`. A dry run needs the partner id, a live order the API key as well (blueprint, section 1)."""
        missing = [
            what
            for what, value in (
                ("CONNECTED_YOU_PARTNER_ID", self.partner_id),
                ("CONNECTED_YOU_API_KEY", self.api_key if self.is_live else "not needed"),
                (f"ConnectedYou's planCode for {request.plan_name!r} in the catalogue", request.plan_code),
            )
            if not value
        ]
        if self.partner_id is None or request.plan_code is None or missing:
            raise SupplierNotConfigured("ConnectedYou is not configured: missing " + ", ".join(missing))
        if self.is_live and not re.fullmatch("[ -~]+", self.api_key or ""):
            raise SupplierNotConfigured(
                "ConnectedYou is not configured: CONNECTED_YOU_API_KEY holds characters no header can carry"
            )
        return PreparedOrder(
            reference=request.reference,
            body=order_body(request, partner_id=self.partner_id, plan_code=request.plan_code),
            base_url=self.base_url,
            partner_id=self.partner_id,
        )

    async def provision(self, order: PreparedOrder, *, may_send: Callable[[], bool]) -> Delivered:
        """As `EsimProvider.provision`."""
        try:
            exchange = await self.line.send(order, may_send)
            raise_unless_successful(exchange, "ConnectedYou", order.reference)
            return read_delivered(exchange.answer, order.reference)
        except EsimProvisioningError as error:
            # Their words stand in the message; whoever prints it may not have to know what in them is secret.
            known = self._known_secrets(order)
            error.args = (operators_message(str(error), error.answer, lambda text: redact(text, known)),)
            raise

    def use_credential(self, credential: str) -> None:
        """As `TakesCredential.use_credential`."""
        if self.api_key:
            self._former_keys = (*self._former_keys, self.api_key)
        self.api_key = credential
        self.line.use_api_key(credential)

    async def close(self) -> None:
        await self.line.close()

    def _known_secrets(self, order: PreparedOrder) -> tuple[str, ...]:
        customer = json.loads(order.body)["customer"]
        # An order that is sent again may have been prepared under another partner id.
        return tuple(
            filter(
                None,
                (
                    self.api_key,
                    *self._former_keys,
                    self.partner_id,
                    order.partner_id,
                    customer["email"],
                    customer["name"],
                ),
            )
        )
