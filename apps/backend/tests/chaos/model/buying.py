"""Steps of clients: placing orders, activating them, waiting for answers."""

import asyncio

from hypothesis import strategies as st

from tests.chaos.model.acts import MOST_ORDERS, Acts
from tests.chaos.model.prediction import ModelOrder, Standing
from tests.chaos.model.processes import Mishap
from tests.chaos.model.replies import UNDER_WAY, at_once
from tests.chaos.model.stepping import chosen
from tests.chaos.model.steps import PERHAPS, PICK, SIDE, WORD, may_send, step
from tests.chaos.model.supplier import UNCLEAR, WELL, Word
from tests.chaos.model.world import WAIT_S


class Buying(Acts):
    """What clients do."""

    @step(lambda stage: len(stage.model.orders) < MOST_ORDERS, side=SIDE, mishap=PERHAPS)
    def place_an_order(self, side: str, mishap: Mishap | None) -> None:
        self.world.run(self.place(side, mishap))

    @step(lambda stage: stage.model.orders, pick=PICK, side=SIDE, is_same=st.booleans())
    def send_an_order_again(self, pick: int, side: str, is_same: bool) -> None:
        order = chosen(self.model.orders, pick)
        reply = self.world.run(self.world.place(side, order.key, reference="pay_42" if is_same else "pay_43"))
        if is_same:
            assert (reply.status, reply.headers.get("Idempotent-Replayed")) == (201, "true")
            found = reply.json()
            assert (found["id"], found["status"], found["esim"]["status"]) == (order.id, order.status, order.profile)
        else:
            assert reply.problem == (422, "idempotency-key-reused")

    @step(lambda stage: may_send(stage), pick=PICK, word=WORD, respond_async=st.booleans())
    def activate(self, pick: int, word: Word, respond_async: bool) -> None:
        self.world.run(self.buy(*self.free(pick), pick, word, respond_async=respond_async))

    @step(lambda stage: may_send(stage), pick=PICK, word=WORD)
    def activate_in_a_process_that_sleeps(self, pick: int, word: Word) -> None:
        self.world.run(self.buy(*self.free(pick), pick, word, is_asleep=True))

    @step(lambda stage: may_send(stage), pick=PICK, issues_first=st.booleans(), respond_async=st.booleans())
    def activate_and_hear_nothing_yet(self, pick: int, issues_first: bool, respond_async: bool) -> None:
        self.world.run(self.activate_held(*self.free(pick), issues_first=issues_first, respond_async=respond_async))

    @step(lambda stage: stage.taken(), pick=PICK, respond_async=st.booleans())
    def activate_what_is_not_sent(self, pick: int, respond_async: bool) -> None:
        """Settled, unpaid, on hold, or under way already: here, or in the other process."""
        self.world.run(self._ask_again(*chosen(self.stage.taken(), pick), respond_async=respond_async))

    async def _ask_again(self, order: ModelOrder, side: str, *, respond_async: bool) -> None:
        stage, standing = self.stage, self.model.standing(order)
        call = stage.call(side, order, respond_async=respond_async)
        if (side, order.id) in self.model.flights:
            stage.count("join a flight")
        elif standing is Standing.UNDER_WAY:
            stage.count("join another process's flight")
            stage.take_off(call, None)
        else:
            call.expected = at_once(standing, self.model.held_off_until - self.model.now)
        if respond_async and call.expected is None:
            call.expected = UNDER_WAY
        await stage.settle()

    @step(lambda stage: may_send(stage), pick=PICK, number=st.integers(1, 3), word=st.sampled_from([WELL, *UNCLEAR]))
    def activate_many_times_at_once(self, pick: int, number: int, word: Word) -> None:
        order, _ = self.free(pick)
        for flight in list(self.model.flights_of(order)):
            self.world.run(self.stage.kill(flight.process))
        self.world.run(self._activate_many(order, pick, number, word))

    async def _activate_many(self, order: ModelOrder, pick: int, number: int, word: Word) -> None:
        stage = self.stage
        stage.tell(order, word, pick)
        tasks = [
            asyncio.create_task(self.world.activate(side, order.id, respond_async=False))
            for _ in range(number)
            for side in "AB"
        ]
        for _ in range(3):  # whoever waits for the other process looks in turns
            await self.world.settle()
        replies = [task.result() for task in tasks]
        self.model.record(order, self.model.declare(order), stage.supplier.heard[order.reference])
        if word is WELL:
            assert sorted(reply.status for reply in replies) == [200] * (2 * number - 1) + [201]
            assert len({reply.body for reply in replies}) == 1
            order.body = replies[0].body
        else:
            # Who came in time hears how it failed, who came later that it isn't sent again.
            assert {reply.problem for reply in replies} <= {
                (status, "activation-outcome-unknown") for status in (502, 409)
            }
            assert 502 in {reply.status for reply in replies}

    @step(lambda stage: stage.in_time() or may_send(stage), pick=PICK, word=WORD)
    def hear_an_answer(self, pick: int, word: Word) -> None:
        self.world.run(self.hear(self.waiting(pick), pick, word))

    @step(lambda stage: stage.too_late() or may_send(stage), pick=PICK, side=SIDE, word=WORD)
    def hear_a_late_answer(self, pick: int, side: str, word: Word) -> None:
        if not self.stage.too_late():
            self.give_up_a_call(*self.free(pick), pick, side)
        self.world.run(self.hear(chosen(self.stage.too_late(), pick), pick, word))

    @step(lambda stage: stage.calls or may_send(stage), pick=PICK)
    def callers_wait_no_longer(self, pick: int) -> None:
        if not self.stage.calls:
            self.waiting(pick)
        self.world.loop.pass_time(WAIT_S + 1)
        for call in self.stage.calls:
            call.expected = UNDER_WAY
        self.world.run(self.stage.settle())
