"""What got worse since the last record."""

from collections.abc import Iterator

from tests.bench.report import number
from tests.bench.results import Record, Target

_CLEARLY = 0.10
"""Of the recorded median. Less isn't told from what differs between a short run and a long one."""


def worse(now: Record, then: Record) -> Iterator[str]:
    """
    A line for each target's figure that clearly got worse: no repetition comes up to the worst one on record, and the median is a
    tenth worse. What is no ratio is compared on the same machine only.
    """
    recorded = {(target.key, target.figure.name): target for target in then.targets}
    same_machine = all(now.machine.get(name) == then.machine.get(name) for name in ("processor", "cores"))
    for target in now.targets:
        earlier = recorded.get((target.key, target.figure.name))
        if earlier is None or not (target.is_ratio or same_machine):
            continue
        if _is_worse(target, earlier):
            yield (
                f"{target.key}, {target.figure.name}: {number(target.figure.median)} "
                f"({number(target.figure.low)} to {number(target.figure.high)}), was {number(earlier.figure.median)} "
                f"({number(earlier.figure.low)} to {number(earlier.figure.high)}) with {then.commit}"
            )


def _is_worse(now: Target, then: Target) -> bool:
    if now.is_least:
        return now.figure.high < then.figure.low and now.figure.median < then.figure.median * (1 - _CLEARLY)
    return now.figure.low > then.figure.high and now.figure.median > then.figure.median * (1 + _CLEARLY)
