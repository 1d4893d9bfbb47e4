"""The fault matrix: what goes wrong, in the moment in which it does. Every fault is struck at every moment."""

import random
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from app.failpoints import Point
from tests.chaos.strikes import ASK, KILL, RAISE, Strike


class Moment(StrEnum):
    BEFORE_SEND = "before send"
    """The intent is on file and there is a connection to the supplier; nothing has left."""
    AFTER_SEND = "after send"
    AFTER_ANSWER = "after answer"
    """What came of the call is known to the process, and to nobody else."""
    BETWEEN_COMMITS = "between the commits"
    """All of the answer is written and its COMMIT is due."""


class Side(StrEnum):
    PROCESS = "process"
    DATABASE = "database"
    SUPPLIER = "supplier"


class Do(StrEnum):
    """What the umpire is asked for."""

    STOP = "stop the process for a moment"
    STOP_LONG = "stop the process for longer than an order may wait to be sent"
    TERM = "ask the process to end"
    HANG_UP = "let the client hang up"
    TERMINATE = "have PostgreSQL end the process's connections"
    CUT = "cut the process's connections"
    STALL = "let nothing pass to the database"
    REFUSE = "let the database refuse connections"
    LOSE_COMMIT = "lose the answer to the process's next COMMIT"
    KILL_POSTGRES = "kill the postmaster"
    READ_ONLY = "make the database read-only for a moment"
    SUPPLIER_REFUSES = "let the supplier refuse connections"


@dataclass(frozen=True)
class Fault:
    """
    Attributes:
        do: what is done to the process at the moment: KILL, RAISE or a `Do`.
        script: how the supplier takes the order; it behaves in faults of the others. A supplier's fault has no moment of its own,
            so the process's database connections are cut in that moment besides.
        is_rare: it hits all at once, or takes long: a few of them in each batch.
    """

    name: str
    side: Side
    do: str = Do.CUT
    script: str = ""
    is_rare: bool = False


FAULTS = (
    Fault("kill -9", Side.PROCESS, KILL),
    Fault("error of ours", Side.PROCESS, RAISE),
    Fault("stop", Side.PROCESS, Do.STOP),
    Fault("SIGTERM", Side.PROCESS, Do.TERM),
    Fault("client hangs up", Side.PROCESS, Do.HANG_UP),
    Fault("connections terminated", Side.DATABASE, Do.TERMINATE),
    Fault("connections cut", Side.DATABASE, Do.CUT),
    Fault("database stalls", Side.DATABASE, Do.STALL),
    Fault("database refuses", Side.DATABASE, Do.REFUSE),
    Fault("COMMIT's answer lost", Side.DATABASE, Do.LOSE_COMMIT),
    Fault("supplier refuses connections", Side.DATABASE, Do.SUPPLIER_REFUSES),
    Fault("supplier closes", Side.SUPPLIER, script="close_after"),
    Fault("supplier resets", Side.SUPPLIER, script="reset_before"),
    Fault("supplier hangs", Side.SUPPLIER, script="hang_after"),
    Fault("supplier slow", Side.SUPPLIER, script="slow_after-0.7"),
    Fault("500", Side.SUPPLIER, script="status_500_after"),
    Fault("409", Side.SUPPLIER, script="status_409_after"),
    Fault("422", Side.SUPPLIER, script="status_422"),
    Fault("401", Side.SUPPLIER, script="status_401"),
    Fault("429", Side.SUPPLIER, script="status_429"),
    Fault("429 with Retry-After", Side.SUPPLIER, script="status_429_seconds-1"),
    Fault("200 with HTML", Side.SUPPLIER, script="html_after"),
    Fault("200 cut short", Side.SUPPLIER, script="length_too_long"),
    Fault("200 for another order", Side.SUPPLIER, script="reference_other"),
    Fault("200 in gzip", Side.SUPPLIER, script="gzip"),
    Fault("long stop", Side.PROCESS, Do.STOP_LONG, is_rare=True),
    Fault("postmaster killed", Side.DATABASE, Do.KILL_POSTGRES, is_rare=True),
    Fault("database read-only", Side.DATABASE, Do.READ_ONLY, is_rare=True),
)

_POINTS = {
    Moment.BEFORE_SEND: Point.CALL_SENDING,
    Moment.AFTER_SEND: Point.CALL_SENT,
    Moment.AFTER_ANSWER: Point.CALL_ANSWERED,
    Moment.BETWEEN_COMMITS: Point.ANSWER_WRITTEN,
}
_AFTER_LEAVING_S = 0.05
"""At CALL_SENT, see `Strike.after_s`; the supplier takes its time with its answer."""
_TAKES_ITS_TIME = "slow_after-0.3"


@dataclass(frozen=True)
class Cell:
    """A fault in a moment: what happens to one order."""

    fault: Fault
    moment: Moment

    @property
    def name(self) -> str:
        return f"{self.fault.name}, {self.moment}"

    @property
    def point(self) -> Point:
        match self.fault, self.moment:
            case Fault(side=Side.SUPPLIER), Moment.AFTER_ANSWER:
                return Point.ANSWER_BEGUN  # there may never be a whole answer: that is what is known then
            case Fault(do=Do.LOSE_COMMIT), Moment.BEFORE_SEND:
                return Point.INTENT_WRITTEN  # the COMMIT that is due before the order is sent
            case Fault(do=Do.SUPPLIER_REFUSES), Moment.BEFORE_SEND:
                return Point.CALL_CONNECTING
        return _POINTS[self.moment]

    @property
    def is_put_off(self) -> bool:
        return self.point is Point.CALL_SENT and self.fault.side is Side.PROCESS and self.fault.do != RAISE

    @property
    def script(self) -> str:
        """The fault that the stand-in is told of; "" for none."""
        return self.fault.script or (_TAKES_ITS_TIME if self.is_put_off else "")

    def strike(self, reference: str, umpire: str) -> Strike:
        after_s = _AFTER_LEAVING_S if self.is_put_off else 0
        if self.fault.do in (KILL, RAISE):
            return Strike(reference, self.point, self.fault.do, self.name, after_s=after_s)
        return Strike(reference, self.point, ASK, self.name, umpire, {"do": self.fault.do}, after_s)


def cells(*, rare: bool) -> list[Cell]:
    return [Cell(fault, moment) for fault, moment in product(FAULTS, Moment) if fault.is_rare == rare]


def schedule(n: int, seed: int) -> list[Cell]:
    """
    What happens to each of `n` orders. Each cell comes as often as any other, give or take one; the rare ones once, spread over
    the run. Who is told to come back in a second comes last: all others would have to wait as well.
    """
    draw = random.Random(f"{seed}/matrix")  # noqa: S311 - reproducible is what is wanted
    deck = cells(rare=False)
    found = deck * (n // len(deck)) + draw.sample(deck, n % len(deck))
    draw.shuffle(found)
    found.sort(key=lambda cell: "Retry-After" in cell.fault.name)
    rare = cells(rare=True)
    draw.shuffle(rare)
    if n > 10 * len(rare):
        for number, cell in enumerate(rare):
            found[(number + 1) * (n * 3 // 4) // (len(rare) + 1)] = cell
    return found
