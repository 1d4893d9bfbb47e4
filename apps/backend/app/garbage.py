"""
When the garbage collector looks at everything.

By itself it does so whenever what it knows has grown by a quarter. With thousands of activations waiting that is every few seconds,
each time for a quarter of a second or more in which nobody is served, and it finds next to nothing. Here it does so when little is
going on. Young objects are still looked at as Python does it.
"""

import asyncio
import gc
import time

_EVERY_S = 60
_AT_LEAST_EVERY_S = 600
_LOOK_S = 5
_CALM_TASKS = 300
"""With fewer tasks than these it takes a few milliseconds."""

_NEVER = 2**31 - 1


def spare_the_loop() -> None:
    """From now on Python leaves the oldest generation to `keep_collecting`, and what is there already is never looked at again."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    gc.collect()
    gc.freeze()


async def keep_collecting() -> None:
    """Until cancelled."""
    collected_at = time.monotonic()
    while True:
        await asyncio.sleep(_LOOK_S)
        since_s = time.monotonic() - collected_at
        is_calm = len(asyncio.all_tasks()) < _CALM_TASKS
        if since_s >= (_EVERY_S if is_calm else _AT_LEAST_EVERY_S):
            gc.collect()
            collected_at = time.monotonic()
