"""The queue for a scarce thing, first come, first served, in two lanes: who is in a hurry goes first, and keeps nobody out."""

import asyncio
from collections import deque
from contextvars import ContextVar

in_a_hurry = ContextVar("in_a_hurry", default=False)
"""True in whoever only has a look, and has somebody waiting for it: thousands of activations must not stand in its way."""

_MOST_IN_A_ROW = 4
"""So many in a hurry may go before one who isn't."""

_PATIENT_SHARE = 0.5
_HURRY_S = 1
"""
For so long after somebody in a hurry has come, all others have that share of the places. They share one thread: the more of them
are at work at once, the longer the loop's round that everybody waits for, and with a database nearby nobody gets more done.
"""


class Gate:
    """
    Lets so many through at once.

    Attributes:
        moved_at: when somebody was let in last, on the loop's clock.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._most_patient = max(1, int(places * _PATIENT_SHARE))
        self._patient_inside = 0
        self._hurried: deque[asyncio.Future[None]] = deque()
        self._patient: deque[asyncio.Future[None]] = deque()
        self._hurried_in_a_row = 0
        self._hurry_until = 0.0
        self.moved_at = 0.0

    async def enter(self, *, stuck_after_s: float) -> "Place":
        """
        Waits for a place, which has to be left.

        Raises:
            TimeoutError: the queue has stood still for so long. One that is merely long moves.
        """
        loop = asyncio.get_running_loop()
        place = Place(self, is_hurried=in_a_hurry.get())
        lane = self._hurried if place.is_hurried else self._patient
        if place.is_hurried:
            self._hurry_until = loop.time() + _HURRY_S
        coming = loop.create_future()
        lane.append(coming)
        self._let_in()
        if coming.done():
            return place
        looking = _Looking(self, coming, stuck_after_s)
        try:
            await coming
        except asyncio.CancelledError:
            if not coming.cancelled() and coming.exception() is None:  # the place was ours by then
                place.leave()
            raise
        finally:
            looking.end()
        return place

    def leave(self, place: "Place") -> None:
        self._free += 1
        self._patient_inside -= not place.is_hurried
        self._let_in()

    def _let_in(self) -> None:
        while self._free and (lane := self._next_lane()):
            coming = lane.popleft()
            if coming.done():
                continue  # whoever waited has left
            self._free -= 1
            self._patient_inside += lane is self._patient
            self._hurried_in_a_row = 0 if lane is self._patient else self._hurried_in_a_row + 1
            self.moved_at = asyncio.get_running_loop().time()
            coming.set_result(None)

    def _next_lane(self) -> deque[asyncio.Future[None]]:
        has_turn = self._hurried_in_a_row >= _MOST_IN_A_ROW
        if self._patient and (has_turn or not self._hurried) and self._has_room_for_patient():
            return self._patient
        return self._hurried

    def _has_room_for_patient(self) -> bool:
        is_hurry = asyncio.get_running_loop().time() < self._hurry_until
        return self._patient_inside < self._most_patient or not is_hurry


class Place:
    """One of a gate's."""

    def __init__(self, gate: Gate, *, is_hurried: bool) -> None:
        self.is_hurried = is_hurried
        self._gate = gate

    def leave(self) -> None:
        self._gate.leave(self)


class _Looking:
    """Looks whether the queue moves, and ends somebody's waiting when it doesn't."""

    def __init__(self, gate: Gate, coming: asyncio.Future[None], stuck_after_s: float) -> None:
        self._gate = gate
        self._coming = coming
        self._stuck_after_s = stuck_after_s
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._timer = self._loop.call_later(stuck_after_s, self._look)

    def _look(self) -> None:
        stuck_at = max(self._gate.moved_at, self._since) + self._stuck_after_s
        if self._loop.time() < stuck_at:
            self._timer = self._loop.call_at(stuck_at, self._look)
        elif not self._coming.done():
            self._coming.set_exception(TimeoutError())

    def end(self) -> None:
        self._timer.cancel()
