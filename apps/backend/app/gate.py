"""The queue for a scarce thing. Who only has a look goes first, and keeps nobody out; what was bought is stored before more is."""

import asyncio
from collections import deque
from contextvars import ContextVar
from enum import IntEnum


class Lane(IntEnum):
    """Within a lane it is first come, first served."""

    LOOK = 0
    """Somebody waits for it, and it is quickly done: thousands of activations must not stand in its way."""
    ANSWER = 1
    """A provider's answer: until it is stored, nobody but this process knows what was bought."""
    REST = 2


lane = ContextVar("lane", default=Lane.REST)
"""Where whoever runs in this context queues."""

_MOST_IN_A_ROW = 4
"""So many may have a look before one of the others has a turn."""

_SHARE = 0.5
_HURRY_S = 1
"""
For so long after somebody has come for a look, all others have that share of the places. They share one thread: the more of them
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
        self._most_others = max(1, int(places * _SHARE))
        self._others_inside = 0
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {one: deque() for one in Lane}
        self._looks_in_a_row = 0
        self._hurry_until = 0.0
        self.moved_at = 0.0

    async def enter(self, *, stuck_after_s: float) -> "Place":
        """
        Waits for a place, which has to be left.

        Raises:
            TimeoutError: the queue has stood still for so long. One that is merely long moves.
        """
        loop = asyncio.get_running_loop()
        place = Place(self, lane.get())
        if place.lane is Lane.LOOK:
            self._hurry_until = loop.time() + _HURRY_S
        coming = loop.create_future()
        self._waiting[place.lane].append(coming)
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
        self._others_inside -= place.lane is not Lane.LOOK
        self._let_in()

    def _let_in(self) -> None:
        while self._free and (next_lane := self._next_lane()) is not None:
            coming = self._waiting[next_lane].popleft()
            if coming.done():
                continue  # whoever waited has left
            self._free -= 1
            is_look = next_lane is Lane.LOOK
            self._others_inside += not is_look
            self._looks_in_a_row = self._looks_in_a_row + 1 if is_look else 0
            self.moved_at = asyncio.get_running_loop().time()
            coming.set_result(None)

    def _next_lane(self) -> Lane | None:
        look = Lane.LOOK if self._waiting[Lane.LOOK] else None
        other = next((one for one in (Lane.ANSWER, Lane.REST) if self._waiting[one]), None)
        if other is None or not self._has_room_for_others():
            return look
        return other if look is None or self._looks_in_a_row >= _MOST_IN_A_ROW else look

    def _has_room_for_others(self) -> bool:
        is_hurry = asyncio.get_running_loop().time() < self._hurry_until
        return self._others_inside < self._most_others or not is_hurry


class Place:
    """One of a gate's."""

    def __init__(self, gate: Gate, lane: Lane) -> None:
        self.lane = lane
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
