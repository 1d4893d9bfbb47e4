"""What was measured, and what it was to be: as objects and as JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

from app.settings import BACKEND_DIR

ROOT = BACKEND_DIR.parents[1]
RECORD = ROOT / "docs" / "performance.json"


@dataclass(frozen=True, slots=True)
class Figure:
    """One value for each repetition."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Target:
    """
    Attributes:
        key: P1 to P8.
        is_least: the figure is to be at least `bound`, else at most.
        note: what the reader of the figure has to know.
    """

    key: str
    figure: Figure
    bound: float
    is_least: bool
    note: str = ""

    @property
    def is_met(self) -> bool:
        """By the median."""
        return self.figure.median >= self.bound if self.is_least else self.figure.median <= self.bound

    @property
    def share(self) -> float:
        """Of the target: 1 is just met, more is better."""
        if not self.figure.median or not self.bound:
            return 1.0 if self.is_met else 0.0
        return self.figure.median / self.bound if self.is_least else self.bound / self.figure.median

    @property
    def is_ratio(self) -> bool:
        """Comparable between machines, as far as anything is."""
        return self.figure.unit == "ratio"


@dataclass
class Measured:
    """What a group of measurements found. `figures`: what the targets' ratios were made of, and what else is worth knowing."""

    targets: list[Target] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def __iadd__(self, other: Self) -> Self:
        self.targets += other.targets
        self.figures += other.figures
        return self


@dataclass(frozen=True)
class Record:
    """
    Attributes:
        at: the day, in UTC.
        machine: what it ran on, by name.
        noise: what it was disturbed by: one line each; empty on a quiet machine.
    """

    commit: str
    at: str
    machine: dict[str, str]
    noise: list[str]
    targets: list[Target]
    figures: list[Figure]

    def write(self, path: Path = RECORD) -> None:
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_record(path: Path = RECORD) -> Record | None:
    """What was last recorded; None before the first time."""
    if not path.exists():
        return None
    told: dict[str, Any] = json.loads(path.read_text("utf-8"))
    targets = [Target(**one | {"figure": _figure(one["figure"])}) for one in told.pop("targets")]
    return Record(**told | {"targets": targets, "figures": [_figure(one) for one in told["figures"]]})


def _figure(told: dict[str, Any]) -> Figure:
    return Figure(**told | {"values": tuple(told["values"])})


def figure(name: str, unit: str, values: Iterable[float]) -> Figure:
    """Rounded to what can be told."""
    return Figure(name, unit, tuple(float(f"{value:.4g}") for value in values))
