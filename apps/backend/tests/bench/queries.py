"""
The register of queries: every list, look-up, sweep, job and count that reads a table that grows with the orders, each called as
the application calls it, on a crowd (`crowd.py`).

`python -m tests.bench.queries --data FOLDER` runs it on any crowd and tells what each has read. It leaves traces: orders are
activated, events come in.
"""

import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from typing import Any

from app.house import House
from app.services.esim_providers import EsimProvider
from app.services.esims.activate import Activations
from app.values.iccid import Iccid
from tests.bench.crowd_rows import ORDERS_FROM, Crowd, Life

MOST_ROWS = 300
"""What a query may read of growing tables, whatever it is about: a page of a hundred with its neighbours in two tables."""


@dataclass
class Shop:
    """Where the queries are run: an open installation with a crowd, and places in it."""

    house: House
    crowd: Crowd
    provider: EsimProvider
    activations: Activations
    made: dict[str, Any]
    numbers: Iterator[int] = field(default_factory=lambda: count(time.time_ns() // 1_000_000))
    """None of which was used when the register was run before."""

    def __post_init__(self) -> None:
        self._waiting: Iterator[int] = iter(())
        settled = [number for number in self._old if Life(self.crowd, number).status == "provisioned"]
        self._settled = iter(random.sample(settled, len(settled)))

    async def settle(self) -> None:
        """Before the first query."""
        asked = "SELECT id FROM esim_profiles WHERE status = 'pending' AND id = ANY(%s) ORDER BY id"
        async with self.house.db.read() as connection:
            rows = await connection.exec_driver_sql(asked, (list(self.crowd.stock_ids),))
            self._waiting = iter([row[0] for row in rows])

    @cached_property
    def _old(self) -> range:
        """From a third on, some thousand."""
        gap = max(self.crowd.orders // 40, 8)
        return range(gap * 13, min(gap * 13 + 40 * gap, self.crowd.orders - 4 * self.crowd.stock), max(gap // 50, 1))

    def waiting(self) -> int:
        """The order of an eSIM that nobody has activated; another one each time."""
        return next(self._waiting) + ORDERS_FROM

    def settled(self) -> Life:
        """An eSIM that was provisioned long ago; another one each time."""
        return Life(self.crowd, next(self._settled))

    @property
    def a_day(self) -> int:
        """Orders within a day, and half as many more."""
        return int(self.crowd.orders / self.crowd.days * 1.5) + 50

    @property
    def actor(self) -> str:
        return f"key:{self.crowd.keys[0]}"


Run = Callable[[Shop], Awaitable[object]]


@dataclass(frozen=True)
class Query:
    """
    Attributes:
        most_rows: a statement of it may read so many rows.
        reads_all: why it may read a whole table; None: it may not.
    """

    name: str
    run: Run
    most_rows: Callable[[Shop], int] = lambda _: MOST_ROWS
    reads_all: str | None = None


REGISTER: list[Query] = []


def query(
    name: str, *, most_rows: int | Callable[[Shop], int] = MOST_ROWS, reads_all: str | None = None
) -> Callable[[Run], Run]:
    """Puts a function on the register."""

    def enter(run: Run) -> Run:
        most = most_rows if callable(most_rows) else lambda _: most_rows
        REGISTER.append(Query(name, run, most, reads_all))
        return run

    return enter


def an_iccid(shop: Shop) -> Iccid:
    """One that nobody has."""
    return Iccid.make(f"89997{next(shop.numbers):013d}")


def an_event(iccid: str, **more: object) -> dict[str, object]:
    """What ConnectedYou tells now."""
    at = (datetime.now(UTC) - timedelta(seconds=1)).isoformat(timespec="microseconds")
    return {"event_type": "PROFILE_LIFECYCLE", "iccid": iccid, "event_timestamp": at, "status": "ENABLED"} | more
