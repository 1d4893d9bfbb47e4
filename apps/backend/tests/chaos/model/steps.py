"""How a step is declared: a rule of Hypothesis's that is counted, and that no program consists of."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.chaos.model.acts import MOST_ORDERS
from tests.chaos.model.processes import Mishap
from tests.chaos.model.stepping import Stage
from tests.chaos.model.supplier import WELL, WORDS

PICK = st.integers(0, 59)
"""Which one, of those that there are."""
SIDE = st.sampled_from("AB")
WORD = st.sampled_from([*WORDS, *[WELL] * 4])
PERHAPS = st.sampled_from([None, None, Mishap.REFUSED, Mishap.UNACKNOWLEDGED])


def may_send(stage: Stage) -> bool:
    """Whether there is an order to send, or may be placed."""
    may_place = len(stage.model.orders) < MOST_ORDERS and not stage.model.is_held_off()
    return may_place or bool(stage.free())


STEPS: list[str] = []
"""Every kind of step, by its name in the counts."""


def step(holds: Callable[[Stage], object], **given: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """A step may be taken while `holds`, and so many times a program: left to themselves programs repeat what changes nothing."""

    def of(act: Callable[..., None]) -> Any:
        name = act.__name__.replace("_", " ")
        STEPS.append(name)

        @wraps(act)
        def counted(machine: Any, **drawn: Any) -> None:
            machine.stage.step(name)
            act(machine, **drawn)

        def may_be_taken(machine: Any) -> bool:
            return machine.stage.may_take(name) and bool(holds(machine.stage))

        declared: Any = rule(**given)  # type: ignore[call-overload]  # its overloads know no dictionary
        return precondition(may_be_taken)(declared(counted))

    return of
