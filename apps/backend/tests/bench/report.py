"""What was measured, told: a table on the terminal, and the same in docs/performance.md."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.results import ROOT, Figure, Record, Target
from tests.chaos.report import render as render_between

PAGE = ROOT / "docs" / "performance.md"
NOISY = "Too noisy to conclude"


def number(value: float) -> str:
    """As many digits as are worth reading: 1,234, 12.3, 0.123."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _value(figure: Figure) -> str:
    unit = "" if figure.unit in {"", "ratio"} else f" {figure.unit}"
    return number(figure.median) + unit


def _spread(figure: Figure) -> str:
    return "" if len(figure.values) == 1 else f"{number(figure.low)} to {number(figure.high)}"


def _bound(target: Target) -> str:
    return f"{'≥' if target.is_least else '≤'} {number(target.bound)}"


def _result(target: Target) -> str:
    return "met" if target.is_met else "missed"


def show(record: Record, console: Console) -> None:
    """Ratios first, absolute figures after."""
    targets = Table("", "what", "target", "median", "min to max", "", title="Targets")
    for target in record.targets:
        style = "green" if target.is_met else "red"
        result = f"[{style}]{_result(target)}[/]"
        targets.add_row(
            target.key, target.figure.name, _bound(target), _value(target.figure), _spread(target.figure), result
        )
    console.print(targets)
    for note in _notes(record):
        console.print(note, markup=False)
    figures = Table("what", "median", "min to max", title="Figures")
    for figure in record.figures:
        figures.add_row(figure.name, _value(figure), _spread(figure))
    console.print(figures)
    for complaint in record.noise:
        console.print(f"[yellow]{NOISY}: {complaint}.[/]")


def _notes(record: Record) -> Iterator[str]:
    for target in record.targets:
        if target.note:
            yield f"{target.key}, {target.figure.name}: {target.note}."


def markdown(record: Record) -> str:
    """The generated part of the page."""
    lines = [f"Measured on {record.at} with the code of {record.commit}."]
    if record.noise:
        lines += ["", f"**{NOISY}:** {'; '.join(record.noise)}."]
    lines += ["", "| | what | target | median | min to max | |", "|---|---|---|---|---|---|"]
    for target in record.targets:
        cells = (
            target.key,
            target.figure.name,
            _bound(target),
            _value(target.figure),
            _spread(target.figure),
            _result(target),
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {note}" for note in _notes(record))]
    lines += ["", "| what | median | min to max |", "|---|---|---|"]
    lines += [f"| {figure.name} | {_value(figure)} | {_spread(figure)} |" for figure in record.figures]
    machine = ", ".join(f"{name} {value}" for name, value in record.machine.items())
    lines += ["", f"On: {machine}."]
    return "\n".join(lines)


def render(made: str, page: Path = PAGE) -> None:
    """As of the runs' report."""
    render_between(made, page, "bench")
