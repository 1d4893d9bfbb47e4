"""What a run comes to: how much was done, which faults really happened, and what the oracle says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

Tick = Callable[[int], None]
"""So many units more are done."""

PROMISES = ("doubled", "lost", "invented", "stuck", "silent")
"""The verdict's numbers that must be 0."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The oracle's word on an installation (`oracle.judge` says what each number counts)."""

    doubled: int = 0
    lost: int = 0
    invented: int = 0
    stuck: int = 0
    silent: int = 0
    false_unknowns: int = 0
    """No breach, but each costs a person ten minutes."""
    cases: tuple[str, ...] = field(default=(), compare=False)
    """A sentence for each breach; never a code."""

    @property
    def is_clean(self) -> bool:
        return not any(getattr(self, name) for name in PROMISES)

    def __add__(self, other: Verdict) -> Verdict:
        sums = {name: getattr(self, name) + getattr(other, name) for name in (*PROMISES, "false_unknowns")}
        return Verdict(**sums, cases=self.cases + other.cases)

    def __str__(self) -> str:
        numbers = ", ".join(f"{getattr(self, name)} {name}" for name in PROMISES)
        return f"{'clean' if self.is_clean else 'BROKEN'}: {numbers}; {self.false_unknowns} false unknowns"


@dataclass(slots=True)
class Outcome:
    """
    Attributes:
        done: of the run's unit.
        counts: per fault or event, how often it was seen to happen (not how often it was planned).
        figures: what was measured, by a name that tells the unit.
        failures: sentences, each a reason why the run has failed.
    """

    done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    figures: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def has_passed(self) -> bool:
        return self.verdict.is_clean and not self.failures

    def require(self, name: str, at_least: int) -> None:
        """A fault that happened less often than claimed fails the run."""
        if self.counts[name] < at_least:
            self.failures.append(f"{name} happened {self.counts[name]} times, and at least {at_least} are claimed")


def no_tick(_: int) -> None:
    """For who doesn't look."""
