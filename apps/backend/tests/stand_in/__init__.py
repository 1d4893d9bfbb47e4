"""
A stand-in for ConnectedYou, or for another supplier (`dialect.py`), over a real socket: it keeps an fsynced ledger of what it
issued, and misbehaves on demand.

    async with StandIn(ledger=path) as supplier:
        supplier.script("hang_after", respond(503, "busy"))
        ...
        assert supplier.violations == []
        assert len(supplier.issued_for("order-1")) == 1

Faults by name: `python apps/backend/tests/stand_in/__main__.py --list-faults`.
From another process: `admin.py`, `__main__.py`, `elsewhere.py`. Bad certificates: `certificates.py`.
"""

from tests.stand_in.faults import Fault, Moment, Seen, respond
from tests.stand_in.issuing import Issued
from tests.stand_in.ledger import read_ledger
from tests.stand_in.server import StandIn
from tests.stand_in.wire import Received

__all__ = ["Fault", "Issued", "Moment", "Received", "Seen", "StandIn", "read_ledger", "respond"]
