"""Steps of a supplier that has given its word not to bill a reference twice: unknown orders are sent again."""

from hypothesis import strategies as st

from app.services.esims.errors import OutcomeStillUnknown, ProviderOnHold
from app.services.esims.replay import CannotReplay
from tests.chaos.model.acts import Acts, refused
from tests.chaos.model.prediction import Flight, ModelOrder
from tests.chaos.model.stepping import chosen
from tests.chaos.model.steps import PICK, SIDE, WORD, may_send, step
from tests.chaos.model.supplier import UNCLEAR, UNREACHABLE, WELL, Held, Word


class Replaying(Acts):
    """In programs whose supplier keeps such a word; in the others nothing may be sent again."""

    @step(
        lambda stage: stage.model.due() or may_send(stage),
        pick=PICK,
        side=SIDE,
        word=WORD,
        is_held=st.booleans(),
    )
    def what_is_due_is_sent_again(self, pick: int, side: str, word: Word, is_held: bool) -> None:
        if not self.model.due():
            self.world.run(self.buy(*self.free(pick), pick, chosen(UNCLEAR, pick)))
        due = [order for order in self.model.due() if (side, order.id) not in self.model.flights]
        if len(due) > 1 and word.retry_after_s:
            word = WELL  # who comes first holds the others back, and nobody can tell who does
        self.world.run(self._replay_due(due, side, pick, None if is_held else word))

    async def _replay_due(self, due: list[ModelOrder], side: str, pick: int, word: Word | None) -> None:
        """`word`: None where the supplier keeps its answer back."""
        stage, supplier = self.stage, self.stage.supplier
        for order in due:
            if word is None:
                supplier.will_hold(order.reference, issues_first=pick % 2 == 0)
            else:
                stage.tell(order, word, pick)
        already = len(supplier.held)
        begun = await self.world.processes[side].activations.replay_due()
        await self.world.traffic.has_settled()
        assert begun == (len(due) if supplier.dedupes else 0)
        held = {each.reference: each for each in supplier.held[already:]}
        for order in due:
            if not supplier.dedupes or self.model.is_held_off():
                supplier.forget(order.reference)
            else:
                self._sent_again(order, side, held.get(order.reference))
        await stage.settle()

    def _sent_again(self, order: ModelOrder, side: str, held: Held | None) -> None:
        self.stage.count("sent again")
        if held is not None:
            self.model.flights[side, order.id] = Flight(side, order, self.model.replay(order), held)
            return
        heard = self.stage.supplier.heard[order.reference]
        attempt = self.model.replay(order, is_received=heard.word is not UNREACHABLE)
        self.model.record(order, attempt, heard)

    @step(lambda stage: stage.model.orders, pick=PICK, side=SIDE, word=WORD)
    def a_person_has_an_order_sent_again(self, pick: int, side: str, word: Word) -> None:
        replayable = [order for order in self.model.orders if self.model.may_be_replayed(order)]
        self.world.run(self._replay_by_hand(chosen(replayable or self.model.orders, pick), side, pick, word))

    async def _replay_by_hand(self, order: ModelOrder, side: str, pick: int, word: Word) -> None:
        stage, supplier = self.stage, self.stage.supplier
        replay = self.world.processes[side].command().replay(order.id, actor="cli:eva")
        if not supplier.dedupes or not self.model.may_be_replayed(order):
            with refused(CannotReplay):
                await replay
            return
        if self.model.is_held_off():
            with refused(ProviderOnHold):
                await replay
            return
        word = stage.tell(order, word, pick)
        if word.outcome == "delivered":
            assert (await replay).esim.status == "provisioned"
        else:
            with refused(OutcomeStillUnknown):
                await replay
        self._sent_again(order, side, None)
        stage.count("sent again by hand")
        await stage.settle()
