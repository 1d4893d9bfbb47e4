"""The toy supplier: what it can do, and how one order goes out and comes back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from app.redaction import redact
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
from app.services.esim_providers.one_post import OnePost
from app.services.esim_providers.statuses import raise_unless_successful
from tests.toy_provider.payloads import order_body, read_delivered, traveller_of

CAPABILITIES = Capabilities(needs_plan_code=True, dedupe=Dedupe.UNKNOWN, lookup=Lookup.NONE)


@dataclass(frozen=True)
class Toy:
    """As `EsimProvider` has it."""

    name: ClassVar[str] = "TOY"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    is_live: ClassVar[bool] = True
    partner_id: ClassVar[str | None] = None
    api_key: str | None = field(repr=False)
    base_url: str
    post: OnePost

    def prepare(self, request: ProvisionRequest) -> PreparedOrder:
        if not self.api_key:
            raise SupplierNotConfigured("Toy is not configured: missing TOY_API_KEY")
        if not request.plan_code:
            raise SupplierNotConfigured(
                f"Toy is not configured: missing Toy's product for {request.plan_name!r} in the catalogue"
            )
        body = order_body(request, product=request.plan_code)
        return PreparedOrder(request.reference, body, base_url=self.base_url)

    async def provision(self, order: PreparedOrder, *, may_send: Callable[[], bool]) -> Delivered:
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
        try:
            exchange = await self.post.send(
                order, url=f"{order.base_url}/v2/purchases", headers=headers, may_send=may_send
            )
            raise_unless_successful(exchange, "Toy", order.reference)
            return read_delivered(exchange.answer, order.reference)
        except EsimProvisioningError as error:
            # Their words stand in the message; whoever prints it may not have to know what in them is secret.
            known = tuple(filter(None, (self.api_key, *traveller_of(order.body))))
            error.args = (operators_message(str(error), error.answer, lambda text: redact(text, known)),)
            raise

    async def close(self) -> None:
        await self.post.close()
