"""The garbage collector looks at everything rarely, and not never."""

import subprocess
import sys

GROWS = """
import gc
from app.garbage import spare_the_loop
if {is_spared}:
    spare_the_loop()
before = gc.get_stats()[2]["collections"]
kept = [[number] for number in range({objects})]
print(gc.get_stats()[2]["collections"] - before)
"""


def full_collections(objects: int, *, is_spared: bool) -> int:
    """How many a process makes whose memory grows."""
    done = subprocess.run(
        [sys.executable, "-c", GROWS.format(is_spared=is_spared, objects=objects)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return int(done.stdout)


def test_memory_that_grows_by_a_million_objects_stops_nobody() -> None:
    assert full_collections(1_000_000, is_spared=False) > 0
    assert full_collections(1_000_000, is_spared=True) == 0


def test_memory_that_goes_on_growing_is_looked_at() -> None:
    assert full_collections(5_000_000, is_spared=True) > 0
