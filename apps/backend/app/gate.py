"""The queue for a scarce thing, first come, first served, in two lanes: who is in a hurry goes first, and keeps nobody out."""

import asyncio
from collections import deque
from contextvars import ContextVar

in_a_hurry = ContextVar("in_a_hurry", default=False)
"""True in whoever only has a look, and has somebody waiting for it: thousands of activations must not stand in its way."""

_MOST_IN_A_ROW = 4
"""So many in a hurry may go before one who isn't."""


class Gate:
    """Lets so many through at once."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._hurried: deque[asyncio.Future[None]] = deque()
        self._patient: deque[asyncio.Future[None]] = deque()
        self._hurried_in_a_row = 0

    async def acquire(self) -> None:
        if self._free:
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        (self._hurried if in_a_hurry.get() else self._patient).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it was ours by then
                self.release()
            raise

    def release(self) -> None:
        while lane := self._next_lane():
            place = lane.popleft()
            if not place.done():  # else whoever waited has left
                place.set_result(None)
                return
        self._free += 1

    def _next_lane(self) -> deque[asyncio.Future[None]]:
        if self._hurried and (self._hurried_in_a_row < _MOST_IN_A_ROW or not self._patient):
            self._hurried_in_a_row += 1
            return self._hurried
        self._hurried_in_a_row = 0
        return self._patient
