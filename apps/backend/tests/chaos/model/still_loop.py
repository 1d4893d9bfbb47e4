"""An event loop on which no time passes unless it is told so: a timer never fires by chance, and no test ever sleeps."""

import asyncio
from collections import deque


class StillLoop(asyncio.SelectorEventLoop):
    """Sockets are served as they come; timers wait for `pass_time`."""

    _ready: "deque[asyncio.Handle]"

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        self._now += seconds

    @property
    def is_idle(self) -> bool:
        """Whether nothing could go on but what waits for a socket or a timer."""
        return not self._ready


class Traffic:
    """Units of work that are at the database. When there are none, and the loop is idle, the world stands still."""

    def __init__(self, loop: StillLoop) -> None:
        self._loop = loop
        self._under_way = 0
        self._none = asyncio.Event()
        self._none.set()

    def begins(self) -> None:
        self._under_way += 1
        self._none.clear()

    def ends(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._none.set()

    async def has_settled(self) -> None:
        """Returns once all there is to do is done, and what is left waits for a timer or for the supplier."""
        while True:
            await self._none.wait()
            await asyncio.sleep(0)
            if self._loop.is_idle and self._none.is_set():
                return
