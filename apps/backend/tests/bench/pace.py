"""How long each measurement takes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """
    Attributes:
        repetitions: of each pair of yardstick and ours, one after the other.
        seconds: that each of them is measured.
        warm_s: of a server before it is measured.
        try_s: for each number of clients that the yardstick is tried with.
    """

    repetitions: int
    seconds: float
    warm_s: float
    try_s: float


FULL = Pace(repetitions=3, seconds=5, warm_s=2, try_s=2)
QUICK = Pace(repetitions=3, seconds=2, warm_s=1, try_s=1)
