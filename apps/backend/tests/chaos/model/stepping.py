"""What the rules are made of: calls under way, their landing, and the comparison of everything after each step."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tests.api.serving import Reply
from tests.chaos.model.prediction import Flight, Model, ModelOrder, Standing
from tests.chaos.model.replies import FIRST, REPLAYED, UNDER_WAY, Expected, at_once, check, failed
from tests.chaos.model.supplier import STOLEN, WELL, Heard, Held, Supplier, Word
from tests.chaos.model.world import World

T = TypeVar("T")


@dataclass(eq=False)
class Call:
    """A client that waits for its answer."""

    process: str
    order: ModelOrder
    task: "asyncio.Task[Reply]"
    is_starter: bool = False
    """Whether its flight began with it."""
    respond_async: bool = False
    expected: Expected | None = None
    """None while it has to wait."""


@dataclass
class Stage:
    """A program under way: the world, the model, and who waits."""

    world: World
    model: Model = field(default_factory=Model)
    calls: list[Call] = field(default_factory=list)
    taken_steps: Counter[str] = field(default_factory=Counter)
    is_sound: bool = False
    """Whether the last step came out as it should."""

    @property
    def supplier(self) -> Supplier:
        return self.world.supplier

    def step(self, name: str) -> None:
        self.taken_steps[name] += 1
        self.world.steps[name] += 1
        self.is_sound = False

    def may_take(self, name: str) -> bool:
        return self.taken_steps[name] < self.world.most_often

    def count(self, event: str) -> None:
        self.world.counts[event] += 1

    def call(self, side: str, order: ModelOrder, *, respond_async: bool = False) -> Call:
        activation = self.world.activate(side, order.id, respond_async=respond_async)
        call = Call(side, order, asyncio.create_task(activation), respond_async=respond_async)
        self.calls.append(call)
        return call

    def take_off(self, call: Call, held: Held | None) -> Flight:
        """A flight begins with a call: one of its own, or one that waits for another process's."""
        attempt = call.order.attempts[-1]
        flight = Flight(call.process, call.order, attempt, held)
        self.model.flights[call.process, call.order.id] = flight
        call.is_starter = True
        return flight

    def land(self, flight: Flight, heard: Heard) -> None:
        """The supplier's answer has come, and is stored."""
        order = flight.order
        was_open = flight.attempt.outcome is None
        outcome = self.model.record(order, flight.attempt, heard)
        self.count(f"{'' if was_open else 'late '}{outcome}")
        del self.model.flights[flight.process, order.id]
        is_delivery = outcome in {"delivered", "surplus"}
        for call in self._waiting_for(flight):
            if is_delivery:
                is_first = call.is_starter and order.code == heard.code
                done = FIRST if is_first else REPLAYED
                call.expected = done if order.profile == "provisioned" else UNDER_WAY
            elif order.profile == "provisioned":
                call.expected = REPLAYED
            elif flight.attempt.is_replay:
                call.expected = at_once(Standing.UNKNOWN, 0)
            elif order.profile == "unknown" and outcome != "unknown":
                call.expected = failed("unknown")  # a sweep was quicker: "send it again" would be wrong advice
            else:
                call.expected = failed(outcome, heard.word.retry_after_s)

    def _land_joined(self) -> None:
        """Flights that waited for another process's attempt, once that is closed."""
        for flight in list(self.model.flights.values()):
            outcome = flight.attempt.outcome
            if flight.held is not None or outcome is None:
                continue
            del self.model.flights[flight.process, flight.order.id]
            is_good = outcome in {"delivered", "surplus"} or flight.order.profile == "provisioned"
            for call in self._waiting_for(flight):
                call.expected = REPLAYED if is_good else failed(outcome, flight.attempt.retry_after_s)
            self.count("told of another process's attempt")

    def _waiting_for(self, flight: Flight) -> list[Call]:
        return [
            call
            for call in self.calls
            if call.expected is None and (call.process, call.order) == (flight.process, flight.order)
        ]

    async def settle(self) -> None:
        """Lets happen what can happen; then every caller has the answer that the model says, or none yet."""
        await self.world.settle()
        self._land_joined()
        for call in self.calls[:]:
            if call.expected is None:
                assert not call.task.done(), f"{call.order.reference}: {call.task.result()} instead of waiting"
                continue
            assert call.task.done(), f"{call.order.reference}: no answer instead of {call.expected}"
            check(call.task.result(), call.expected, call.order)
            self.count(f"answer {call.expected.status} {call.expected.problem or ''}".rstrip())
            self.calls.remove(call)

    async def kill(self, side: str) -> None:
        """Its clients hear no more, its flights are gone; calls at the supplier go on there."""
        for call in [call for call in self.calls if call.process == side]:
            self.calls.remove(call)
            call.task.cancel()
        for flight in [flight for flight in self.model.flights.values() if flight.process == side]:
            del self.model.flights[side, flight.order.id]
        await self.world.processes[side].die()
        await self.world.traffic.has_settled()
        self.world.start(side)

    def tell(self, order: ModelOrder, word: Word, pick: int) -> Word:
        """What the supplier will say to this order. There must be something to steal, where it steals."""
        word = self.fitting(order, word, pick)
        self.supplier.will_say(order.reference, word)
        return word

    def fitting(self, order: ModelOrder, word: Word, pick: int) -> Word:
        victims = [other for other in self.model.holders() if other is not order]
        if word not in STOLEN:
            return word
        if not victims:
            return WELL
        code = chosen(victims, pick).code
        [self.supplier.stolen] = [
            line for lines in self.supplier.ledger.values() for line in lines if line.activation_code == code
        ]
        return word

    def free(self) -> list[tuple[ModelOrder, str]]:
        """Orders that an activation would send, each with a process that has no older flight for it."""
        return [
            (order, side)
            for order in self.model.orders
            if self.model.standing(order) is Standing.SENT
            for side in "AB"
            if (side, order.id) not in self.model.flights
        ]

    def taken(self) -> list[tuple[ModelOrder, str]]:
        """Orders that an activation would not send, by process."""
        free = self.free()
        return [(order, side) for order in self.model.orders for side in "AB" if (order, side) not in free]

    def bought(self) -> list[ModelOrder]:
        """Orders that the supplier has issued an eSIM for; first of all those that a person may settle."""
        orders = [order for order in self.model.orders if self.supplier.ledger[order.reference]]
        return [order for order in orders if self.model.may_be_resolved(order)] or orders

    def unheard(self) -> list[Held]:
        return [held for held in self.supplier.held if not held.is_heard]

    def in_time(self) -> list[Flight]:
        """Flights that wait for their answer, and nobody has given them up yet."""
        return [flight for flight in self._own_flights() if flight.attempt.outcome is None]

    def too_late(self) -> list[Flight]:
        """Flights that wait for an answer that nobody else expects any more."""
        return [flight for flight in self._own_flights() if flight.attempt.outcome is not None]

    def _own_flights(self) -> list[Flight]:
        return [flight for flight in self.model.flights.values() if flight.held is not None]

    def without_iccid(self) -> list[ModelOrder]:
        """Orders that hold no ICCID; first of all those that a person may settle."""
        return self.model.resolvable() or [order for order in self.model.orders if not order.has_iccid]

    def compare(self) -> None:
        """All that is on file, and all that was bought, is as the model says."""
        assert not self.world.bugs, self.world.bugs
        self.world.on_file.compare(self.model.orders, self.world.vault)
        for order in self.model.orders:
            assert self.supplier.received[order.reference] == order.sent, f"{order.reference} was sent wrongly"
            lines = self.supplier.ledger[order.reference]
            assert len(lines) <= 1 or order.is_misled, f"{order.reference} was bought {len(lines)} times"


def chosen(among: Sequence[T], pick: int) -> T:
    return among[pick % len(among)]
