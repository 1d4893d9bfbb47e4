"""The garbage collector looks at everything when little is going on, and not by itself."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from app import garbage

GROWS = """
import gc
from app.garbage import spare_the_loop
if {is_spared}:
    spare_the_loop()
before = gc.get_stats()[2]["collections"]
kept = [[number] for number in range(1_000_000)]
print(gc.get_stats()[2]["collections"] - before)
"""


def full_collections(*, is_spared: bool) -> int:
    """How many a process makes whose memory grows."""
    done = subprocess.run(
        [sys.executable, "-c", GROWS.format(is_spared=is_spared)], stdout=subprocess.PIPE, check=True, text=True
    )
    return int(done.stdout)


def test_memory_that_grows_stops_nobody() -> None:
    assert full_collections(is_spared=False) > 0
    assert full_collections(is_spared=True) == 0


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Event]:
    """Set by the next collection of everything."""
    monkeypatch.setattr(garbage, "_LOOK_S", 0)
    monkeypatch.setattr(garbage, "_EVERY_S", 0)
    event = asyncio.Event()

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            event.set()

    gc.callbacks.append(note)
    yield event
    gc.callbacks.remove(note)


async def test_everything_is_looked_at_when_little_is_going_on(collected: asyncio.Event) -> None:
    collecting = asyncio.create_task(garbage.keep_collecting())
    async with asyncio.timeout(30):
        await collected.wait()
    collecting.cancel()


async def test_everything_is_looked_at_after_a_while_however_much_is_going_on(
    collected: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "_CALM_TASKS", 0)
    monkeypatch.setattr(garbage, "_AT_LEAST_EVERY_S", 0)
    collecting = asyncio.create_task(garbage.keep_collecting())
    async with asyncio.timeout(30):
        await collected.wait()
    collecting.cancel()
