"""What a check finds."""

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    """A defect: something that is set up doesn't work, or isn't safe."""
    BY_HAND = "by hand"
    """Not set up yet, or not for a machine to know: somebody has to do or decide it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the checklist. `to_do`: None exactly where it has passed."""

    name: str
    result: Result
    detail: str
    to_do: str | None = None


def passed(name: str, detail: str) -> Finding:
    return Finding(name, Result.PASSED, detail)


def failed(name: str, detail: str, to_do: str) -> Finding:
    return Finding(name, Result.FAILED, detail, to_do)


def by_hand(name: str, detail: str, to_do: str) -> Finding:
    return Finding(name, Result.BY_HAND, detail, to_do)


def failed_when(is_defect: bool, name: str, detail: str, to_do: str) -> Finding:
    """Failed where it is one; else a matter for later, by hand."""
    return Finding(name, Result.FAILED if is_defect else Result.BY_HAND, detail, to_do)
