"""The steps of a program, as rules of a Hypothesis state machine."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis import target
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.errors import DatabaseUnavailable
from app.services.esims.recover import sweep
from app.services.esims.resolve import CannotResolve, resolve_issued, resolve_not_issued
from app.values.activation_code import ActivationCode, UnusableActivationCode
from app.values.iccid import Iccid
from tests.chaos.model.prediction import STEP_S, TIMEOUT_S, Flight, Model, ModelOrder, Standing
from tests.chaos.model.processes import Mishap
from tests.chaos.model.replies import AWAY, UNDER_WAY, Expected, at_once
from tests.chaos.model.stepping import Stage, chosen
from tests.chaos.model.supplier import UNCLEAR, UNREACHABLE, WELL, WORDS, Heard, Word
from tests.chaos.model.world import WAIT_S, World
from tests.chaos.oracle import Evidence, judge
from tests.stand_in.issuing import issue

PICK = st.integers(0, 59)
SIDE = st.sampled_from("AB")
WORD = st.sampled_from([*WORDS, *[WELL] * 4])
EITHER_WAY = [word for word in WORDS if word.outcome in {"delivered", "unknown"}]
"""What leaves an order the same whether or not a sweep has given it up before: a program may not depend on who was quicker."""
PERHAPS = st.sampled_from([None, None, Mishap.REFUSED, Mishap.UNACKNOWLEDGED])
REFUSAL = st.sampled_from([Mishap.REFUSED, Mishap.UNACKNOWLEDGED])
DEATH = st.sampled_from([Mishap.DIES_BEFORE, Mishap.DIES_AFTER])
MOST_ORDERS = 12
FEWEST_PAID = 3
BEYOND_DEADLINES_S = int(TIMEOUT_S) // STEP_S * STEP_S + STEP_S


def may_send(stage: Stage) -> bool:
    """Whether there is an order to send, or may be placed."""
    may_place = len(stage.model.orders) < MOST_ORDERS and not stage.model.is_held_off()
    return may_place or bool(stage.free())


STEPS: list[str] = []
"""Every kind of step, by its name in the counts."""


def step(holds: Callable[[Stage], object], **given: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """A rule that is counted, and none that a program consists of: by themselves they repeat what changes nothing."""

    def of(act: Callable[..., None]) -> Any:
        name = act.__name__.replace("_", " ")
        STEPS.append(name)

        @wraps(act)
        def counted(machine: "Promise", **drawn: Any) -> None:
            machine.stage.step(name)
            act(machine, **drawn)

        def may_be_taken(machine: "Promise") -> bool:
            return machine.stage.may_take(name) and bool(holds(machine.stage))

        return precondition(may_be_taken)(rule(**given)(counted))

    return of


@contextmanager
def refused(error: type[Exception]) -> Iterator[None]:
    try:
        yield
    except error:
        return
    raise AssertionError(f"done, where {error.__name__} was expected")


class Promise(RuleBasedStateMachine):
    """One paid order, one eSIM, whatever fails."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.world.begin_program()
        self.stage = Stage(self.world)

    @property
    def model(self) -> Model:
        return self.stage.model

    # --- orders

    @initialize(side=SIDE)
    def the_first_order(self, side: str) -> None:
        self.world.run(self._place(side, None))

    @step(lambda stage: len(stage.model.orders) < MOST_ORDERS, side=SIDE, mishap=PERHAPS)
    def place_an_order(self, side: str, mishap: Mishap | None) -> None:
        self.world.run(self._place(side, mishap))

    async def _place(self, side: str, mishap: Mishap | None) -> None:
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

    def _free(self, pick: int) -> tuple[ModelOrder, str]:
        """An order that an activation would send, and a process to ask; a new one, where there is none."""
        if not self.stage.free():
            self.world.run(self._place("AB"[pick % 2], None))
        return chosen(self.stage.free(), pick)

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

    @step(
        lambda stage: sum(order.status == "paid" for order in stage.model.orders) > FEWEST_PAID,
        pick=PICK,
        status=st.sampled_from(["cancelled", "refunded"]),
    )
    def end_an_order(self, pick: int, status: str) -> None:
        order = chosen([order for order in self.model.orders if order.status == "paid"], pick)
        self.world.on_file.end_order(order.id, status)
        order.status = status
        if order.profile in {"pending", "refused"}:
            order.profile = "cancelled"

    # --- activations

    @step(lambda stage: may_send(stage), pick=PICK, word=WORD, respond_async=st.booleans())
    def activate(self, pick: int, word: Word, respond_async: bool) -> None:
        self.world.run(self._activate(*self._free(pick), pick, word, respond_async=respond_async))

    @step(lambda stage: may_send(stage), pick=PICK, word=WORD)
    def activate_in_a_process_that_sleeps(self, pick: int, word: Word) -> None:
        self.world.run(self._activate(*self._free(pick), pick, word, is_asleep=True))

    async def _activate(
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

    @step(lambda stage: may_send(stage), pick=PICK, issues_first=st.booleans(), respond_async=st.booleans())
    def activate_and_hear_nothing_yet(self, pick: int, issues_first: bool, respond_async: bool) -> None:
        self.world.run(self._activate_held(*self._free(pick), issues_first=issues_first, respond_async=respond_async))

    async def _activate_held(
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

    @step(lambda stage: may_send(stage), pick=PICK, side=SIDE, dies=st.booleans())
    def a_call_is_given_up(self, pick: int, side: str, dies: bool) -> None:
        """Its process dies, or sleeps on and will hear the answer later."""
        self._give_up_a_call(*self._free(pick), pick, side, dies=dies)

    def _give_up_a_call(self, order: ModelOrder, caller: str, pick: int, side: str, *, dies: bool = False) -> None:
        self.world.run(self._activate_held(order, caller, issues_first=pick % 2 == 0))
        if dies:
            self.world.run(self.stage.kill(caller))
        self._pass_time(BEYOND_DEADLINES_S)
        self.world.run(self._sweep(side))

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
        order, _ = self._free(pick)
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

    # --- answers that come later

    @step(lambda stage: stage.in_time() or may_send(stage), pick=PICK, word=WORD)
    def hear_an_answer(self, pick: int, word: Word) -> None:
        self.world.run(self._hear(self._waiting(pick), pick, word))

    @step(lambda stage: stage.too_late() or may_send(stage), pick=PICK, side=SIDE, word=WORD)
    def hear_a_late_answer(self, pick: int, side: str, word: Word) -> None:
        if not self.stage.too_late():
            self._give_up_a_call(*self._free(pick), pick, side)
        self.world.run(self._hear(chosen(self.stage.too_late(), pick), pick, word))

    def _waiting(self, pick: int) -> Flight:
        """A flight that waits for its answer in time; where there is none, one begins."""
        if not self.stage.in_time():
            self.world.run(self._activate_held(*self._free(pick), issues_first=pick % 2 == 0))
        return chosen(self.stage.in_time(), pick)

    @step(lambda stage: may_send(stage), pick=PICK, side=SIDE, word=WORD)
    def a_person_is_mistaken(self, pick: int, side: str, word: Word) -> None:
        """A call that sleeps is given up, nothing is said to have been issued, and the order is sent again by the other process."""
        order, caller = self._free(pick)
        self._give_up_a_call(order, caller, pick, side)
        self._say_not_issued(order)
        again = (order, "A" if caller == "B" else "B")
        if again in self.stage.free():
            self.world.run(self._activate(*again, pick, word))

    async def _hear(self, flight: Flight, pick: int, word: Word) -> None:
        stage = self.stage
        held = flight.held
        assert held is not None
        word = self._after_all(stage.fitting(flight.order, word, pick), is_issued=held.issued is not None)
        stage.supplier.release(held, word)
        await self.world.traffic.has_settled()
        stage.land(flight, stage.supplier.heard[flight.order.reference])
        await stage.settle()

    @staticmethod
    def _after_all(word: Word, *, is_issued: bool) -> Word:
        """What may still be said to an order that was received, and perhaps issued."""
        return WELL if word is UNREACHABLE or (is_issued and not word.issues) else word

    @step(lambda stage: stage.unheard() or may_send(stage), pick=PICK, side=SIDE, word=WORD)
    def answer_a_dead_process(self, pick: int, side: str, word: Word) -> None:
        if not self.stage.unheard():
            self._give_up_a_call(*self._free(pick), pick, side, dies=True)
        held = chosen(self.stage.unheard(), pick)
        self.stage.supplier.release(held, self._after_all(word, is_issued=held.issued is not None))

    @step(lambda stage: stage.calls or may_send(stage), pick=PICK)
    def callers_wait_no_longer(self, pick: int) -> None:
        if not self.stage.calls:
            self._waiting(pick)
        self.world.loop.pass_time(WAIT_S + 1)
        for call in self.stage.calls:
            call.expected = UNDER_WAY
        self.world.run(self.stage.settle())

    # --- time, death, the database

    @step(lambda stage: stage.model.waits_for_time(), is_long=st.booleans())
    def time_passes(self, is_long: bool) -> None:
        self._pass_time(BEYOND_DEADLINES_S if is_long else STEP_S)

    def _pass_time(self, seconds: int) -> None:
        self.world.on_file.pass_time(seconds)
        self.model.now += seconds

    @step(lambda stage: stage.model.flights or may_send(stage), pick=PICK)
    def a_process_dies(self, pick: int) -> None:
        if not self.model.flights:
            self._waiting(pick)
        side = chosen(list(self.model.flights.values()), pick).process
        self.world.run(self.stage.kill(side))

    @step(lambda stage: may_send(stage), pick=PICK, word=WORD, is_answered=st.booleans(), mishap=DEATH)
    def a_process_dies_at_a_commit(self, pick: int, word: Word, is_answered: bool, mishap: Mishap) -> None:
        self.world.run(self._activate_badly(*self._free(pick), pick, word, is_answered, mishap))

    @step(lambda stage: may_send(stage), pick=PICK, word=WORD, is_answered=st.booleans(), mishap=REFUSAL)
    def the_database_refuses_a_commit(self, pick: int, word: Word, is_answered: bool, mishap: Mishap) -> None:
        self.world.run(self._activate_badly(*self._free(pick), pick, word, is_answered, mishap))

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

    # --- the sweep, and a person

    @step(lambda stage: stage.model.orders, side=SIDE, mishap=PERHAPS)
    def sweep(self, side: str, mishap: Mishap | None) -> None:
        self.world.run(self._sweep(side, mishap))

    async def _sweep(self, side: str, mishap: Mishap | None = None) -> None:
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

    @step(lambda stage: stage.in_time() or may_send(stage), pick=PICK, side=SIDE, word=st.sampled_from(EITHER_WAY))
    def sweep_while_an_answer_comes(self, pick: int, side: str, word: Word) -> None:
        """Both at the same moment: whoever locks the profile first was quicker."""
        flight = self._waiting(pick)
        self._pass_time(BEYOND_DEADLINES_S)
        self.world.run(self._race(flight, pick, side, word))

    async def _race(self, flight: Flight, pick: int, side: str, word: Word) -> None:
        stage = self.stage
        held, order = flight.held, flight.order
        assert held is not None
        word = self._after_all(stage.fitting(order, word, pick), is_issued=held.issued is not None)
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

    @step(
        lambda stage: any(order.profile == "unknown" for order in stage.bought()), pick=PICK, with_iccid=st.booleans()
    )
    def a_person_types_in_what_was_issued(self, pick: int, with_iccid: bool) -> None:
        order = chosen(self.stage.bought(), pick)
        line = self.stage.supplier.ledger[order.reference][-1]
        code = ActivationCode.read(line.activation_code)
        iccid = Iccid.read(line.iccid) if with_iccid else None
        if self.model.may_be_resolved(order):
            self.world.run(self._resolve_issued(order, code, iccid))
            self.stage.count("issued, says a person")
            self.model.resolve_issued(order, code.text, has_iccid=with_iccid)
        else:
            with refused(CannotResolve):
                self.world.run(self._resolve_issued(order, code, iccid))

    @step(
        lambda stage: stage.model.holders() and stage.without_iccid(),
        pick=PICK,
        what=st.sampled_from(["code", "ICCID", "nonsense"]),
    )
    def a_person_types_in_what_cannot_be(self, pick: int, what: str) -> None:
        order, holder = chosen(self.stage.without_iccid(), pick), chosen(self.model.holders(), pick)
        if what == "nonsense":
            with refused(UnusableActivationCode):
                ActivationCode.read("LPA:2$no$code")
            return
        [line] = [
            line
            for lines in self.stage.supplier.ledger.values()
            for line in lines
            if line.activation_code == holder.code
        ]
        fresh = issue(order.reference, "CY-ES-5GB", 900, 900)
        code = ActivationCode.read(line.activation_code if what == "code" else fresh.activation_code)
        with refused(CannotResolve):
            self.world.run(
                self._resolve_issued(order, code, Iccid.read(line.iccid if what == "ICCID" else fresh.iccid))
            )

    @step(lambda stage: any(order.profile == "unknown" for order in stage.model.orders), pick=PICK, mishap=PERHAPS)
    def a_person_says_that_nothing_was_issued(self, pick: int, mishap: Mishap | None) -> None:
        self._say_not_issued(chosen(self.model.resolvable() or self.model.orders, pick), mishap)

    def _say_not_issued(self, order: ModelOrder, mishap: Mishap | None = None) -> None:
        may_be = self.model.may_be_resolved(order)
        if mishap is not None and may_be:
            self.world.processes["B"].db.mishaps.append(mishap)
        expected = CannotResolve if not may_be else DatabaseUnavailable if mishap else None
        with refused(expected) if expected else nullcontext():
            self.world.run(self._resolve_not_issued(order))
        if may_be and mishap is not Mishap.REFUSED:
            self.stage.count("not issued, says a person")
            is_pending = any(held.reference == order.reference for held in self.stage.supplier.held)
            order.is_misled = order.is_misled or is_pending or bool(self.stage.supplier.ledger[order.reference])
            self.model.resolve_not_issued(order)

    async def _resolve_issued(self, order: ModelOrder, code: ActivationCode, iccid: Iccid | None) -> None:
        db, vault = self.world.processes["A"].db, self.world.vault
        await resolve_issued(db, vault, order.esim_id, code=code, iccid=iccid, reason="by telephone", actor="cli:eva")

    async def _resolve_not_issued(self, order: ModelOrder) -> None:
        db, vault = self.world.processes["B"].db, self.world.vault
        await resolve_not_issued(db, vault, order.esim_id, reason="by telephone", actor="cli:eva")

    # --- looking

    @step(lambda stage: stage.model.orders, pick=PICK, side=SIDE)
    def look(self, pick: int, side: str) -> None:
        order = chosen(self.model.orders, pick)
        path = f"/api/esims/{order.esim_id}"
        esim, picture = (self.world.run(self.world.get(side, at)) for at in (path, f"{path}/qr.svg"))
        is_provisioned = order.profile == "provisioned"
        assert (esim.json()["status"], esim.json()["activation_code"]) == (order.profile, order.code)
        if is_provisioned:
            order.body = order.body or esim.body
            assert esim.body == order.body
        assert picture.status == (200 if is_provisioned else 404)
        esims, orders = (
            self.world.run(self.world.get(side, f"/api/{of}")).json()["items"] for of in ("esims", "orders")
        )
        expected = [(order.id, order.profile) for order in reversed(self.model.orders)]
        assert [(esim["order_id"], esim["status"]) for esim in esims] == expected
        assert [(order["id"], order["esim"]["status"]) for order in orders] == expected

    # --- after each step, and at the end

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
        self._pass_time(BEYOND_DEADLINES_S)
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
