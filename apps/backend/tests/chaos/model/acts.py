"""What steps are made of: acts that are done to the product and to the model alike."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from app.errors import DatabaseUnavailable
from app.services.esims.recover import sweep
from app.services.esims.resolve import CannotResolve, resolve_issued, resolve_not_issued
from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid
from tests.chaos.model.prediction import STEP_S, TIMEOUT_S, Flight, Model, ModelOrder
from tests.chaos.model.processes import Mishap
from tests.chaos.model.replies import UNDER_WAY, Expected
from tests.chaos.model.stepping import Stage, chosen
from tests.chaos.model.supplier import UNREACHABLE, WELL, Heard, Word
from tests.chaos.model.world import World

MOST_ORDERS = 12
BEYOND_DEADLINES_S = int(TIMEOUT_S) // STEP_S * STEP_S + STEP_S


@contextmanager
def refused(error: type[Exception]) -> Iterator[None]:
    try:
        yield
    except error:
        return
    raise AssertionError(f"done, where {error.__name__} was expected")


class Acts:
    """Some wait for the product (async), the others are made of those."""

    stage: Stage

    @property
    def world(self) -> World:
        return self.stage.world

    @property
    def model(self) -> Model:
        return self.stage.model

    async def place(self, side: str, mishap: Mishap | None) -> None:
        key = f"key-{len(self.model.orders)}"
        if mishap is not None:
            self.world.processes[side].db.mishaps.append(mishap)
            reply = await self.world.place(side, key)
            assert reply.problem == (503, "database-unavailable")
        reply = await self.world.place(side, key)
        assert reply.status == 201, reply
        was_placed = mishap is Mishap.UNACKNOWLEDGED
        assert reply.headers.get("Idempotent-Replayed") == ("true" if was_placed else None)
        order = reply.json()
        assert (order["status"], order["esim"]["status"]) == ("paid", "pending")
        self.model.orders.append(ModelOrder(order["id"], order["esim"]["id"], key, self.model.now))

    def free(self, pick: int) -> tuple[ModelOrder, str]:
        """An order that an activation would send, and a process to ask; a new one, where there is none."""
        if not self.stage.free():
            self.world.run(self.place("AB"[pick % 2], None))
        return chosen(self.stage.free(), pick)

    async def buy(
        self,
        order: ModelOrder,
        side: str,
        pick: int,
        word: Word,
        *,
        respond_async: bool = False,
        is_asleep: bool = False,
    ) -> None:
        stage = self.stage
        word = stage.tell(order, word, pick)
        with self.world.asleep() if is_asleep else nullcontext():
            call = stage.call(side, order, respond_async=respond_async)
            await self.world.traffic.has_settled()
        is_sent = not is_asleep and word is not UNREACHABLE
        self.model.declare(order, is_received=is_sent)
        stage.land(stage.take_off(call, None), stage.supplier.heard[order.reference] if is_sent else Heard(UNREACHABLE))
        if respond_async and call.expected is not None:
            call.expected = Expected(
                call.expected.status, call.expected.problem, call.expected.retry_after_s, may_be_early=True
            )
        await stage.settle()

    async def activate_held(
        self, order: ModelOrder, side: str, *, issues_first: bool, respond_async: bool = False
    ) -> None:
        stage = self.stage
        stage.supplier.will_hold(order.reference, issues_first=issues_first)
        call = stage.call(side, order, respond_async=respond_async)
        await self.world.traffic.has_settled()
        self.model.declare(order)
        stage.take_off(call, stage.supplier.held[-1])
        if respond_async:
            call.expected = UNDER_WAY
        await stage.settle()

    def give_up_a_call(self, order: ModelOrder, caller: str, pick: int, side: str, *, dies: bool = False) -> None:
        self.world.run(self.activate_held(order, caller, issues_first=pick % 2 == 0))
        if dies:
            self.world.run(self.stage.kill(caller))
        self.pass_time(BEYOND_DEADLINES_S)
        self.world.run(self.come_by(side))

    def waiting(self, pick: int) -> Flight:
        """A flight that waits for its answer in time; where there is none, one begins."""
        if not self.stage.in_time():
            self.world.run(self.activate_held(*self.free(pick), issues_first=pick % 2 == 0))
        return chosen(self.stage.in_time(), pick)

    async def hear(self, flight: Flight, pick: int, word: Word) -> None:
        stage = self.stage
        held = flight.held
        assert held is not None
        word = self.after_all(stage.fitting(flight.order, word, pick), is_issued=held.issued is not None)
        stage.supplier.release(held, word)
        await self.world.traffic.has_settled()
        stage.land(flight, stage.supplier.heard[flight.order.reference])
        await stage.settle()

    @staticmethod
    def after_all(word: Word, *, is_issued: bool) -> Word:
        """What may still be said to an order that was received, and perhaps issued."""
        return WELL if word is UNREACHABLE or (is_issued and not word.issues) else word

    def pass_time(self, seconds: int) -> None:
        self.world.on_file.pass_time(seconds)
        self.model.now += seconds

    async def come_by(self, side: str, mishap: Mishap | None = None) -> None:
        db = self.world.processes[side].db
        if mishap is None:
            assert await sweep(db) == self.model.sweep()
        else:
            db.mishaps.append(mishap)
            with refused(DatabaseUnavailable):
                await sweep(db)
            if mishap is Mishap.UNACKNOWLEDGED:
                self.model.sweep()
        await self.stage.settle()

    def say_not_issued(self, order: ModelOrder, mishap: Mishap | None = None) -> None:
        may_be = self.model.may_be_resolved(order)
        if mishap is not None and may_be:
            self.world.processes["B"].db.mishaps.append(mishap)
        expected = CannotResolve if not may_be else DatabaseUnavailable if mishap else None
        with refused(expected) if expected else nullcontext():
            self.world.run(self.resolve_not_issued(order))
        if may_be and mishap is not Mishap.REFUSED:
            self.stage.count("not issued, says a person")
            is_pending = any(held.reference == order.reference for held in self.stage.supplier.held)
            order.is_misled = order.is_misled or is_pending or bool(self.stage.supplier.ledger[order.reference])
            self.model.resolve_not_issued(order)

    async def resolve_issued(self, order: ModelOrder, code: ActivationCode, iccid: Iccid | None) -> None:
        db, vault = self.world.processes["A"].db, self.world.vault
        await resolve_issued(db, vault, order.esim_id, code=code, iccid=iccid, reason="by telephone", actor="cli:eva")

    async def resolve_not_issued(self, order: ModelOrder) -> None:
        db, vault = self.world.processes["B"].db, self.world.vault
        await resolve_not_issued(db, vault, order.esim_id, reason="by telephone", actor="cli:eva")
