"""Steps of fate: time, death, a database that goes away, and the sweep that comes by."""

import asyncio

from hypothesis import strategies as st

from app.services.esims.recover import sweep
from tests.chaos.model.acts import BEYOND_DEADLINES_S, Acts
from tests.chaos.model.prediction import STEP_S, Flight, ModelOrder
from tests.chaos.model.processes import Mishap
from tests.chaos.model.replies import AWAY
from tests.chaos.model.stepping import chosen
from tests.chaos.model.steps import PERHAPS, PICK, SIDE, WORD, may_send, step
from tests.chaos.model.supplier import UNREACHABLE, WELL, WORDS, Heard, Word

_REFUSAL = st.sampled_from([Mishap.REFUSED, Mishap.UNACKNOWLEDGED])
_DEATH = st.sampled_from([Mishap.DIES_BEFORE, Mishap.DIES_AFTER])
_EITHER_WAY = [word for word in WORDS if word.outcome in {"delivered", "unknown"}]
"""What leaves an order the same whether or not a sweep has given it up before: a program may not depend on who was quicker."""


class Failing(Acts):
    """What befalls the installation."""

    @step(lambda stage: stage.model.waits_for_time(), is_long=st.booleans())
    def time_passes(self, is_long: bool) -> None:
        self.pass_time(BEYOND_DEADLINES_S if is_long else STEP_S)

    @step(lambda stage: may_send(stage), pick=PICK, side=SIDE, dies=st.booleans())
    def a_call_is_given_up(self, pick: int, side: str, dies: bool) -> None:
        """Its process dies, or sleeps on and will hear the answer later."""
        self.give_up_a_call(*self.free(pick), pick, side, dies=dies)

    @step(lambda stage: stage.unheard() or may_send(stage), pick=PICK, side=SIDE, word=WORD)
    def answer_a_dead_process(self, pick: int, side: str, word: Word) -> None:
        if not self.stage.unheard():
            self.give_up_a_call(*self.free(pick), pick, side, dies=True)
        held = chosen(self.stage.unheard(), pick)
        self.stage.supplier.release(held, self.after_all(word, is_issued=held.issued is not None))

    @step(lambda stage: stage.model.flights or may_send(stage), pick=PICK)
    def a_process_dies(self, pick: int) -> None:
        if not self.model.flights:
            self.waiting(pick)
        side = chosen(list(self.model.flights.values()), pick).process
        self.world.run(self.stage.kill(side))

    @step(lambda stage: may_send(stage), pick=PICK, word=WORD, is_answered=st.booleans(), mishap=_DEATH)
    def a_process_dies_at_a_commit(self, pick: int, word: Word, is_answered: bool, mishap: Mishap) -> None:
        self.world.run(self._activate_badly(*self.free(pick), pick, word, is_answered, mishap))

    @step(lambda stage: may_send(stage), pick=PICK, word=WORD, is_answered=st.booleans(), mishap=_REFUSAL)
    def the_database_refuses_a_commit(self, pick: int, word: Word, is_answered: bool, mishap: Mishap) -> None:
        self.world.run(self._activate_badly(*self.free(pick), pick, word, is_answered, mishap))

    async def _activate_badly(
        self, order: ModelOrder, side: str, pick: int, word: Word, is_answered: bool, mishap: Mishap
    ) -> None:
        """The mishap befalls the commit of the intent, or that of the answer."""
        stage = self.stage
        word = stage.tell(order, WELL if word.name.startswith("stolen") else word, pick)
        self.world.processes[side].db.mishaps.extend([None, mishap] if is_answered else [mishap])
        call = stage.call(side, order)
        await self.world.traffic.has_settled()
        stage.count(f"{mishap.name.lower()} {'answer' if is_answered else 'intent'}")
        is_death = mishap in {Mishap.DIES_BEFORE, Mishap.DIES_AFTER}
        is_on_file = mishap in {Mishap.UNACKNOWLEDGED, Mishap.DIES_AFTER}
        if is_answered:
            attempt = self.model.declare(order, is_received=word is not UNREACHABLE)
            heard = stage.supplier.heard[order.reference]
            if not is_death:
                stage.land(stage.take_off(call, None), heard)
            elif is_on_file:
                self.model.record(order, attempt, heard)
        else:
            stage.supplier.forget(order.reference)
            call.expected = AWAY
            if is_on_file:
                attempt = self.model.declare(order, is_received=False)
                if not is_death:
                    self.model.record(order, attempt, Heard(UNREACHABLE))
        if is_death:
            await stage.kill(side)
        await stage.settle()

    @step(lambda stage: stage.model.orders, side=SIDE, mishap=PERHAPS)
    def sweep(self, side: str, mishap: Mishap | None) -> None:
        self.world.run(self.come_by(side, mishap))

    @step(lambda stage: stage.in_time() or may_send(stage), pick=PICK, side=SIDE, word=st.sampled_from(_EITHER_WAY))
    def sweep_while_an_answer_comes(self, pick: int, side: str, word: Word) -> None:
        """Both at the same moment: whoever locks the profile first was quicker."""
        flight = self.waiting(pick)
        self.pass_time(BEYOND_DEADLINES_S)
        self.world.run(self._race(flight, pick, side, word))

    async def _race(self, flight: Flight, pick: int, side: str, word: Word) -> None:
        stage = self.stage
        held, order = flight.held, flight.order
        assert held is not None
        word = self.after_all(stage.fitting(order, word, pick), is_issued=held.issued is not None)
        begun = len(order.audit)
        sweeping = asyncio.create_task(sweep(self.world.processes[side].db))
        stage.supplier.release(held, word)
        await self.world.traffic.has_settled()
        found = self.world.on_file.audit_of(order)[begun:]
        was_swept = len(found) == 2
        stage.count(f"the {'sweep' if was_swept else 'answer'} was quicker")
        heard = stage.supplier.heard[order.reference]
        if was_swept:
            assert sweeping.result() == self.model.sweep()
        stage.land(flight, heard)
        if not was_swept:
            assert sweeping.result() == self.model.sweep()
        await stage.settle()
