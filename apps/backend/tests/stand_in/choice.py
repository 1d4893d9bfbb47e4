"""Which fault a request meets: the script first, then the plan code, then the seeded schedule, then none."""

import random
from collections import Counter, defaultdict, deque
from collections.abc import Mapping

from tests.stand_in.faults import TABLE, Fault, Moment, fault_named, fault_of_plan


class Choice:
    """
    The three sources of faults.

    The schedule draws from (seed, order reference, nth request of that reference): the same orders meet the same
    faults whatever the order in which they arrive, and a replayed order may fare better than its first try.
    """

    def __init__(self, *, seed: int | str, weights: Mapping[str, float]) -> None:
        self.counts: Counter[str] = Counter()
        self._script: deque[Fault] = deque()
        self._script_of: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._requests_of: Counter[str] = Counter()
        self.schedule(seed, weights)

    def schedule(self, seed: int | str, weights: Mapping[str, float]) -> None:
        """Weights by fault name ("name-arg" too); "none" is a name. Raises UnknownFaultError."""
        self.seed = seed
        self.weights = dict(weights)
        self._names = list(weights)
        self._faults = {name: fault_named(name) for name in weights}

    def script(self, *faults: str | Fault, reference: str | None = None) -> None:
        """
        Queue faults for the next order requests, or (first choice) for the next ones of one reference; these strike
        after the body at the earliest, since only it says whose they are.
        """
        found = [fault_named(fault) for fault in faults]
        (self._script if reference is None else self._script_of[reference]).extend(found)

    def clear_script(self) -> None:
        self._script.clear()
        self._script_of.clear()

    @property
    def scripted(self) -> int:
        """How many scripted faults nothing has met yet."""
        return len(self._script) + sum(len(queue) for queue in self._script_of.values())

    def early(self, *moments: Moment) -> Fault | None:
        """The scripted fault that strikes before the body is read, if it is the next."""
        if self._script and self._script[0].moment in moments:
            return self._script.popleft()
        return None

    def of_order(self, reference: str, plan_code: str) -> Fault:
        """The fault of an order whose body has been read. Raises UnknownFaultError for a misspelt plan code."""
        self._requests_of[reference] += 1
        if own := self._script_of.get(reference):
            return own.popleft()
        if self._script:
            return self._script.popleft()
        return fault_of_plan(plan_code) or self._drawn(reference)

    def _drawn(self, reference: str) -> Fault:
        if not self._names:
            return TABLE["none"]
        nth = self._requests_of[reference]
        draw = random.Random(f"{self.seed}/{reference}/{nth}")  # noqa: S311 - reproducible is what is wanted
        return self._faults[draw.choices(self._names, list(self.weights.values()))[0]]
