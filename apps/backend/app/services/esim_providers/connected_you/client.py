"""The ConnectedYou provider: what it needs, what it sends, and what each answer means."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil
from typing import ClassVar, Protocol

from app.redaction import redact
from app.services.esim_providers.connected_you.payloads import order_body, read_delivered
from app.services.esim_providers.contract import (
    Answer,
    Capabilities,
    Dedupe,
    Delivered,
    EsimProvisioningError,
    Lookup,
    PreparedOrder,
    ProvisionRequest,
    SupplierNotConfigured,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
    operators_message,
)

LONGEST_RETRY_AFTER_S = 24 * 3600
"""A supplier's `Retry-After` is believed up to a day: a typo of theirs may not close the shop for a year."""

_ABOUT_OUR_ACCOUNT = frozenset({401, 402, 403})
_SAYS_NOTHING = frozenset({408, 409, 425})
"""4xx that don't tell whether the order was taken: the server gave up waiting, saw a conflict, or fears a replay."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer of the supplier, and its `Retry-After` header as received."""

    answer: Answer
    retry_after: str | None = None


class Line(Protocol):
    """How an order reaches ConnectedYou: over HTTP, or not at all in a dry run."""

    is_live: bool

    async def send(self, order: PreparedOrder, may_send: Callable[[], bool]) -> Exchange:
        """Raises SupplierUnreachable (nothing was sent) or SupplierOutcomeUnknown (no whole answer came)."""

    async def close(self) -> None: ...


CAPABILITIES = Capabilities(
    # What a repeated orderReference does is not stated (x-open in the draft contract), nor any look-up.
    needs_plan_code=True,
    dedupe=Dedupe.UNKNOWN,
    lookup=Lookup.NONE,
    has_events=True,
)


@dataclass(frozen=True)
class ConnectedYou:
    """Source: integration blueprint of 2025-11-20, sections 1, 2, 3 and 5."""

    name: ClassVar[str] = "CONNECTED_YOU"
    partner_id: str | None = field(repr=False)
    api_key: str | None = field(repr=False)
    base_url: str
    line: Line
    capabilities: Capabilities = CAPABILITIES

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
            return self._verdict(order, exchange)
        except EsimProvisioningError as error:
            # Their words stand in the message; whoever prints it may not have to know what in them is secret.
            known = self._known_secrets(order)
            error.args = (operators_message(str(error), error.answer, lambda text: redact(text, known)),)
            raise

    async def close(self) -> None:
        await self.line.close()

    def _verdict(self, order: PreparedOrder, exchange: Exchange) -> Delivered:
        answer, status = exchange.answer, exchange.answer.status
        if status is None or 200 <= status <= 299:
            return read_delivered(answer, order.reference)
        if status == 429:
            raise SupplierRateLimited(
                "ConnectedYou takes no more orders for now",
                answer=answer,
                retry_after_s=retry_after_seconds(exchange.retry_after),
            )
        if 400 <= status <= 499 and status not in _SAYS_NOTHING:
            raise SupplierRefused(
                f"ConnectedYou refused {order.reference}",
                answer=answer,
                concerns_account=status in _ABOUT_OUR_ACCOUNT,
            )
        raise SupplierOutcomeUnknown(f"ConnectedYou gave no clear answer for {order.reference}", answer=answer)

    def _known_secrets(self, order: PreparedOrder) -> tuple[str, ...]:
        customer = json.loads(order.body)["customer"]
        # An order that is sent again may have been prepared under another partner id.
        return tuple(
            filter(None, (self.api_key, self.partner_id, order.partner_id, customer["email"], customer["name"]))
        )


def retry_after_seconds(header: str | None, *, now: datetime | None = None) -> int | None:
    """
    Reads `Retry-After` (RFC 9110 section 10.2.3): seconds or an HTTP date.

    Returns:
        Whole seconds from now, 0 to LONGEST_RETRY_AFTER_S; None where the header is absent or unreadable.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(int(text.lstrip("0")[:9] or "0"), LONGEST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0, min(ceil((at - (now or datetime.now(UTC))).total_seconds()), LONGEST_RETRY_AFTER_S))
