"""The closed table of faults, and finding one by its name: `name` or `name-arg`, as a plan code says it too."""

from tests.stand_in.faults import connection, content, encoding, framing, statuses
from tests.stand_in.faults.base import Fault

PLAN_PREFIX = "FAULT-"


class UnknownFaultError(ValueError):
    """A misspelt name must fail the test, not behave."""


def _tabled(*groups: tuple[Fault, ...]) -> dict[str, Fault]:
    table: dict[str, Fault] = {}
    for group in groups:
        for fault in group:
            if fault.name in table or "-" in fault.name:
                raise UnknownFaultError(f"{fault.name} is twice in the table, or has a dash")
            table[fault.name] = fault
    return table


OF_ANY_SUPPLIER = _tabled(connection.FAULTS, statuses.FAULTS, framing.FAULTS, encoding.FAULTS)
"""Without those that name members of ConnectedYou's answer."""

TABLE = _tabled(connection.FAULTS, statuses.FAULTS, framing.FAULTS, encoding.FAULTS, content.FAULTS)


def fault_named(name: str | Fault) -> Fault:
    """Raises UnknownFaultError. Capitals don't matter, because plan codes are often capitals."""
    if isinstance(name, Fault):
        return name
    bare, _, arg = name.strip().partition("-")
    # "hold" alone is the form that tests mean nearly always.
    bare = {"hold": "hold_before"}.get(bare.lower(), bare.lower())
    try:
        return TABLE[bare].with_arg(arg)
    except KeyError:
        raise UnknownFaultError(f"no fault is called {bare!r}") from None


def fault_of_plan(plan_code: str) -> Fault | None:
    """The fault that a plan code orders ("FAULT-hang_after"), or None. Raises UnknownFaultError."""
    if not plan_code.startswith(PLAN_PREFIX):
        return None
    return fault_named(plan_code.removeprefix(PLAN_PREFIX))
