"""The model: what the promise says of orders, attempts and calls in flight, written a second time and as plainly as it goes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from app.audit import Tag
from app.services.esims.intent import DEADLINE_MARGIN_S, reference_of
from tests.chaos.model.supplier import STOLEN, Heard, Held

TIMEOUT_S = 10_500 - DEADLINE_MARGIN_S
"""The provider's; far from every multiple of STEP_S, so that it doesn't matter how long a step takes in truth."""

STEP_S = 1_000
"""How much time passes at least, when some does."""

REPLAY_WINDOW_S = 24 * 3600
_RESTS_S = (0, 60, 600, 3600, 6 * 3600)
"""Before the first replay of an order, the second … None comes nearer than a minute to a multiple of STEP_S, either."""

_AFTER = {"delivered": "provisioned", "refused": "refused", "not_sent": "pending", "held_off": "pending"}
"""Attempt's outcome → profile's status; all others: unknown."""

_TAG = {
    "delivered": Tag.ESIM_PROVISIONED,
    "refused": Tag.ESIM_REFUSED,
    "not_sent": Tag.ESIM_NOT_SENT,
    "held_off": Tag.ESIM_HELD_OFF,
    "unknown": Tag.ESIM_OUTCOME_UNKNOWN,
    "surplus": Tag.ESIM_SURPLUS,
}

PROBLEM = {
    "refused": "provider-refused",
    "not_sent": "provider-unreachable",
    "held_off": "provider-rate-limited",
    "unknown": "activation-outcome-unknown",
}
"""Attempt's outcome → problem type."""


class Standing(Enum):
    """What an activation of an order comes to."""

    SENT = auto()
    ON_HOLD = auto()
    NOT_PAID = auto()
    UNKNOWN = auto()
    UNDER_WAY = auto()
    PROVISIONED = auto()


@dataclass(eq=False)
class Attempt:
    opened_at: int
    deadline: int
    is_replay: bool = False
    closed_at: int | None = None
    outcome: str | None = None
    status: int | None = None
    body: bytes | None = None
    retry_after_s: int | None = None


@dataclass(eq=False)
class ModelOrder:
    id: int
    esim_id: int
    key: str
    placed_at: int
    status: str = "paid"
    profile: str = "pending"
    code: str | None = None
    has_iccid: bool = False
    payload: bytes | None = None
    attempts: list[Attempt] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)
    jobs: int = 0
    sent: int = 0
    body: bytes | None = None
    """Of the first good answer; all others must be the same."""
    is_misled: bool = False
    """A person has said "not issued" of an order whose eSIM was issued, or was about to be: the one way to a second purchase."""

    @property
    def reference(self) -> str:
        return reference_of(self.id)


@dataclass(eq=False)
class Flight:
    """An activation in a process that has no result yet."""

    process: str
    order: ModelOrder
    attempt: Attempt
    held: Held | None
    """The call whose answer it waits for; None where another process makes the call."""


@dataclass
class Model:
    now: int = 0
    held_off_until: int = 0
    orders: list[ModelOrder] = field(default_factory=list)
    flights: dict[tuple[str, int], Flight] = field(default_factory=dict)

    def standing(self, order: ModelOrder) -> Standing:
        if order.profile == "provisioned":
            return Standing.PROVISIONED
        if order.profile == "unknown":
            return Standing.UNKNOWN
        if order.profile == "provisioning":
            return Standing.UNDER_WAY
        if order.status != "paid":
            return Standing.NOT_PAID
        return Standing.ON_HOLD if self.is_held_off() else Standing.SENT

    def is_held_off(self) -> bool:
        return self.now < self.held_off_until

    def flights_of(self, order: ModelOrder) -> Iterator[Flight]:
        return (flight for flight in self.flights.values() if flight.order is order)

    def declare(self, order: ModelOrder, *, is_received: bool = True) -> Attempt:
        """Transaction one. `is_received`: the supplier gets to see the order."""
        order.profile = "provisioning"
        order.audit.append(Tag.ESIM_ACTIVATION_STARTED)
        return self._open(order, is_received=is_received)

    def replay(self, order: ModelOrder, *, is_received: bool = True) -> Attempt:
        """The same of an order that is sent again: the question stays open."""
        order.audit.append(Tag.ESIM_REPLAYED)
        return self._open(order, is_received=is_received, is_replay=True)

    def _open(self, order: ModelOrder, *, is_received: bool, is_replay: bool = False) -> Attempt:
        attempt = Attempt(self.now, self.now + TIMEOUT_S + DEADLINE_MARGIN_S, is_replay)
        order.attempts.append(attempt)
        order.sent += is_received
        return attempt

    def is_due(self, order: ModelOrder) -> bool:
        """Whether it may be sent again without anybody asking."""
        if not self.may_be_replayed(order):
            return False
        asked = max(index for index, attempt in enumerate(order.attempts) if not attempt.is_replay)
        question, replays = order.attempts[asked], order.attempts[asked + 1 :]
        ends = [attempt.closed_at for attempt in (question, *replays) if attempt.closed_at is not None]
        return (
            len(replays) < len(_RESTS_S)
            and not any(attempt.outcome == "refused" for attempt in replays)
            and self.now - question.opened_at < REPLAY_WINDOW_S
            and max(ends) + _RESTS_S[len(replays)] <= self.now
        )

    def due(self) -> list[ModelOrder]:
        return [order for order in self.orders if self.is_due(order)]

    def may_be_replayed(self, order: ModelOrder) -> bool:
        """Whether it may be sent again if a person asks for it."""
        return order.profile == "unknown" and order.attempts[-1].outcome is not None

    def record(self, order: ModelOrder, attempt: Attempt, heard: Heard) -> str:
        """Transaction two. Returns the outcome as the caller hears of it."""
        is_settled = order.profile in {"provisioned", "cancelled"}
        outcome = heard.word.outcome
        if heard.word in STOLEN and is_settled:
            outcome = "delivered"  # nobody looks closer at what isn't needed
        if attempt.outcome is None and order.profile == "provisioning":
            order.profile = _AFTER.get(outcome, "unknown")
            self._close(attempt, outcome, heard)
            order.payload = heard.body or order.payload
            if outcome == "delivered":
                _hand_over(order, heard)
        elif attempt.outcome in {"delivered", "surplus"}:
            return outcome
        elif outcome == "delivered" and order.code != heard.code:
            outcome = "surplus" if is_settled else "delivered"
            self._close(attempt, outcome, heard)
            if not is_settled:
                order.profile, order.payload = "provisioned", heard.body
                _hand_over(order, heard)
        elif attempt.outcome is None:
            self._close(attempt, outcome, heard)
            if order.profile == "unknown":
                order.payload = heard.body or order.payload
        else:  # a word that comes too late is kept, and changes nothing
            attempt.status, attempt.body = heard.word.status, heard.body
            order.payload = heard.body or order.payload
        order.audit.append(_TAG[outcome])
        if heard.word.retry_after_s:
            self.held_off_until = max(self.held_off_until, self.now + heard.word.retry_after_s)
        return outcome

    def is_overdue(self, attempt: Attempt) -> bool:
        return attempt.outcome is None and attempt.deadline < self.now

    def sweep(self) -> int:
        """Returns how many attempts it gives up."""
        overdue = [(order, attempt) for order in self.orders for attempt in order.attempts if self.is_overdue(attempt)]
        for order, attempt in overdue:
            attempt.outcome, attempt.closed_at = "unknown", self.now
            if order.profile == "provisioning":
                order.profile = "unknown"
            order.audit.append(Tag.ESIM_OUTCOME_UNKNOWN)
        return len(overdue)

    def may_be_resolved(self, order: ModelOrder) -> bool:
        return self.may_be_replayed(order) and order.attempts[-1].deadline < self.now

    def resolvable(self) -> list[ModelOrder]:
        return [order for order in self.orders if self.may_be_resolved(order)]

    def holders(self) -> list[ModelOrder]:
        """Orders whose code and ICCID no other may get."""
        return [order for order in self.orders if order.has_iccid]

    def is_under_way(self) -> bool:
        return any(attempt.outcome is None for order in self.orders for attempt in order.attempts)

    def waits_for_time(self) -> bool:
        is_early = any(order.profile == "unknown" and not self.may_be_resolved(order) for order in self.orders)
        return is_early or self.is_under_way() or self.is_held_off()

    def resolve_issued(self, order: ModelOrder, code: str, *, has_iccid: bool) -> None:
        order.profile, order.code, order.has_iccid = "provisioned", code, has_iccid
        order.audit.append(Tag.ESIM_RESOLVED_ISSUED)
        order.jobs += 1

    def resolve_not_issued(self, order: ModelOrder) -> None:
        order.profile = "pending"
        order.audit.append(Tag.ESIM_RESOLVED_NOT_ISSUED)

    def _close(self, attempt: Attempt, outcome: str, heard: Heard) -> None:
        attempt.outcome, attempt.closed_at = outcome, self.now
        attempt.status, attempt.body = heard.word.status, heard.body
        attempt.retry_after_s = heard.word.retry_after_s


def _hand_over(order: ModelOrder, heard: Heard) -> None:
    order.code, order.has_iccid = heard.code, heard.word.name == "well"
    order.jobs += 1
