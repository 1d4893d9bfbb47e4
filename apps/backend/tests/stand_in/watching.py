"""Waiting for something to become true, from the stand-in's own loop or from another thread's."""

import asyncio
from collections import deque
from collections.abc import Callable


class Watch:
    """`changed()` after each change; whoever waits in `until` wakes in their own loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], asyncio.AbstractEventLoop, asyncio.Event]] = []

    def changed(self) -> None:
        for is_true, loop, event in tuple(self._waiting):
            if is_true():
                loop.call_soon_threadsafe(event.set)

    async def until(self, is_true: Callable[[], bool], timeout_s: float) -> None:
        """Raises TimeoutError."""
        entry = (is_true, asyncio.get_running_loop(), asyncio.Event())
        self._waiting.append(entry)
        try:
            # Looked at after joining the list: a change in between, made by another thread, isn't missed.
            if not is_true():
                async with asyncio.timeout(timeout_s):
                    await entry[2].wait()
        finally:
            self._waiting.remove(entry)


class Holds:
    """Requests that wait until the test lets them go on, first come first."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._held: deque[asyncio.Future[str | None]] = deque()

    def __len__(self) -> int:
        return len(self._held)

    async def wait(self) -> str | None:
        """Returns the fault that the release asked for, None for what the row says."""
        released: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._held.append(released)
        self._watch.changed()
        try:
            return await released
        finally:
            if released in self._held:  # cancelled: the stand-in is closing
                self._held.remove(released)

    def release(self, count: int | None, then: str | None) -> int:
        """Let `count` (None: all) go on; returns how many. Only in the stand-in's own loop."""
        number = len(self._held) if count is None else min(count, len(self._held))
        for _ in range(number):
            released = self._held.popleft()
            if not released.done():
                released.set_result(then)
        return number
