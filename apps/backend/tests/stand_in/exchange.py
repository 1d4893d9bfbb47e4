"""One order request in the hands of its fault: what a fault can do to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.stand_in.faults import Fault, fault_named
from tests.stand_in.issuing import Issued
from tests.stand_in.wire import Connection, Received, frame

if TYPE_CHECKING:
    from tests.stand_in.server import StandIn


class Exchange:
    """
    Attributes:
        order: the order as received; {} for a fault that strikes before the body is read.
        issued: the eSIM, once there is one.
    """

    def __init__(
        self,
        stand_in: StandIn,
        connection: Connection,
        fault: Fault,
        request: Received | None = None,
        order: dict[str, Any] | None = None,
    ) -> None:
        self.stand_in = stand_in
        self.connection = connection
        self.fault = fault
        self.request = request
        self.order: dict[str, Any] = order or {}
        self.issued: Issued | None = None

    async def run(self) -> None:
        """Issue where the fault says so, then let it act."""
        if self.fault.issues and not self.fault.issues_itself:
            await self.issue()
        await self.fault.act(self)

    async def perform(self, name: str | Fault) -> None:
        """Go on as another fault: what a released hold does."""
        self.fault = fault_named(name)
        await self.run()

    async def issue(self) -> Issued:
        """The eSIM of this request, on the ledger. One request never buys two."""
        if self.issued is None:
            self.issued = await self.stand_in.issue(self.order, self.fault.code_of)
        return self.issued

    async def answer_well(self) -> None:
        await self.issue()
        await self.connection.send(self.good_frame())

    @property
    def good_body(self) -> dict[str, Any]:
        assert self.issued is not None, "the row says issues=False, but its act answers with an eSIM"
        return self.stand_in.dialect.answer(self.issued)

    def good_frame(self) -> bytes:
        return frame(200, self.good_body, self.stand_in.closing_headers)

    def number_arg(self, default: float) -> float:
        return float(self.fault.arg) if self.fault.arg else default

    async def held(self) -> str | None:
        return await self.stand_in.holds.wait()

    async def hang(self) -> None:
        """Say nothing more, until the client leaves."""
        self.stand_in.hanging += 1
        self.stand_in.watch.changed()
        try:
            await self.connection.gone()
        finally:
            self.stand_in.hanging -= 1
            self.connection.is_open = False
            self.connection.ending = "client left"
            self.stand_in.watch.changed()

    @property
    def key(self) -> str:
        """The caller's key, for suppliers that repeat it."""
        return self.stand_in.dialect.key(self.request.headers) if self.request else ""

    def earlier(self) -> Issued | None:
        """The latest eSIM of another order, or None while there is none."""
        reference = self.order.get("orderReference")
        return next((i for i in reversed(self.stand_in.issued) if i.reference != reference), None)
