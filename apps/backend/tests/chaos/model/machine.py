"""The state machine: random programs of all steps, and what holds after each."""

from typing import ClassVar

from hypothesis import strategies as st
from hypothesis import target
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from app.services.esims.recover import sweep
from tests.chaos.model.acts import BEYOND_DEADLINES_S
from tests.chaos.model.buying import Buying
from tests.chaos.model.failing import Failing
from tests.chaos.model.replaying import Replaying
from tests.chaos.model.settling import Settling
from tests.chaos.model.stepping import Stage
from tests.chaos.model.steps import SIDE
from tests.chaos.model.world import World
from tests.chaos.oracle import Evidence, judge


class Promise(Buying, Failing, Replaying, Settling, RuleBasedStateMachine):
    """One paid order, one eSIM, whatever fails."""

    everything: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.everything.begin_program()
        self.stage = Stage(self.everything)

    @initialize(side=SIDE, dedupes=st.booleans())
    def the_first_order(self, side: str, dedupes: bool) -> None:
        self.stage.supplier.dedupes = dedupes
        for name in self.world.processes:
            self.world.start(name)
        self.world.run(self.place(side, None))

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self.stage.compare()
        self.stage.is_sound = True

    def teardown(self) -> None:
        if not self.stage.is_sound:  # a step has failed, and is what there is to tell
            self.world.run(self._give_up())
            return
        surplus = sum(attempt.outcome == "surplus" for order in self.model.orders for attempt in order.attempts)
        target(float(surplus), label="surplus")
        target(
            float(max((len(order.attempts) for order in self.model.orders), default=0)), label="attempts of an order"
        )
        target(float(len(self.model.flights)), label="flights")
        self.world.run(self._end())

    async def _give_up(self) -> None:
        for side in self.world.processes:
            await self.stage.kill(side)

    async def _end(self) -> None:
        """Both processes die, the sweep comes by; then the oracle has its say on all orders whose settler wasn't misled."""
        for side in self.world.processes:
            await self.stage.kill(side)
        self.pass_time(BEYOND_DEADLINES_S)
        db = self.world.processes["A"].db
        assert await sweep(db) == self.model.sweep()
        self.stage.compare()
        misled = {order.reference: order.id for order in self.model.orders if order.is_misled}
        self.world.on_file.forget(list(misled.values()))
        supplier = self.stage.supplier
        issued = [line for reference, lines in supplier.ledger.items() for line in lines if reference not in misled]
        received = [{"reference": reference, "fault": None, "ended": None} for reference in supplier.received]
        verdict = await judge(db, self.world.vault, Evidence(issued, received, activated=()))
        self.world.verdict += verdict
        assert verdict.is_clean, verdict.cases
