"""G19: clocks that are wrong. Leases and sweeps compare the database's time with the database's time, and nothing else."""

import asyncio
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import cycle
from pathlib import Path

from sqlalchemy import func, select

from app.services.esims.intent import reference_of
from app.services.esims.resolve import resolve_issued
from app.values.activation_code import ActivationCode
from tests.chaos.clients import Clients
from tests.chaos.clocks import (
    BERLIN,
    SUMMER_BEGINS,
    WINTER_BEGINS,
    a_wrong_database,
    shortly_before,
    wrong_clock,
)
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.stage import Stage, a_stage
from tests.chaos.swept import swept_attempts
from tests.processes.installations import Server
from tests.processes.programs import Settings, until

_CLIENTS = 16
_SUPPLIER = {
    "none": 40,
    "slow_before-0.3": 8,
    "slow_after-0.3": 8,
    "hang_before": 1,
    "hang_after": 1,
    "status_500_before": 1,
    "status_500_after": 1,
}
_TIMEOUT_S = "2"
_SWEPT_WITHIN_S = 120
_SEEN_WITHIN_S = 60
"""A clock is off by what it should be if what it shows is that near: an answer takes its time."""

_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S


Off = float | datetime | None
"""By how many seconds a clock is off, or what it shows in a few seconds; None for a clock that is right."""


@dataclass(frozen=True)
class Clock:
    """
    What is wrong with the clocks of an installation.

    Attributes:
        servers: of its two API processes.
    """

    name: str
    servers: tuple[Off, Off] = (None, None)
    database: Off = None
    timezone: str = "UTC"

    @property
    def number(self) -> int:
        """Of clocks that are wrong."""
        return sum(off is not None for off in (*self.servers, self.database))


CLOCKS = (
    Clock("server an hour behind", (-_HOUR_S, None)),
    Clock("server an hour ahead", (_HOUR_S, None)),
    Clock("server a day ahead", (_DAY_S, None)),
    Clock("servers five minutes apart", (-150, 150)),
    Clock("servers as summer begins", (SUMMER_BEGINS, SUMMER_BEGINS), timezone=BERLIN),
    Clock("servers as winter begins", (WINTER_BEGINS, WINTER_BEGINS), timezone=BERLIN),
    Clock("database an hour behind", database=-_HOUR_S),
    Clock("database an hour ahead", database=_HOUR_S),
    Clock("database a day ahead", database=_DAY_S),
    Clock("database as winter begins", database=WINTER_BEGINS, timezone=BERLIN),
)


@dataclass(frozen=True)
class _Offsets:
    """A clock's parts in seconds, from the start of its programs on."""

    servers: tuple[float | None, float | None]
    database: float | None
    timezone: str


def _offsets(clock: Clock) -> _Offsets:
    def seconds(off: Off) -> float | None:
        return shortly_before(off) if isinstance(off, datetime) else off

    first, second = clock.servers
    return _Offsets((seconds(first), seconds(second)), seconds(clock.database), clock.timezone)


@dataclass
class _Round:
    """One clock's load: plain activations, a few faults of the supplier's, and a server that is killed half-way."""

    offsets: _Offsets
    stage: Stage
    orders: list[int]
    coming: Iterator[int] = field(init=False)
    clients: Clients = field(init=False)
    half: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.coming = iter(self.orders)
        self.clients = Clients(self.stage.site.secret, self._next_order)

    async def _next_order(self) -> int | None:
        if len(self.clients.used) >= len(self.orders) // 2:
            self.half.set()
        return next(self.coming, None)

    async def play(self, seed: str) -> None:
        await self.stage.site.supplier.post("schedule", {"seed": seed, "weights": _SUPPLIER})
        serving = self.clients.serving
        serving += [self.start(0), self.start(1)]
        replacement = self.start(0)
        for server in (*serving, replacement):
            await until(server.is_ready)
        activating = asyncio.create_task(self.clients.run(_CLIENTS))
        await self.half.wait()
        victim, serving[0] = serving[0], replacement
        await victim.kill()
        await activating
        await self.stage.recover(self.clients.used, *serving)

    async def wrong(self) -> int:
        """How many clocks are off as they should be, as seen from outside: each server dates its answers."""
        seen = []
        for server, off_by_s in zip(self.clients.serving, self.offsets.servers, strict=True):
            if off_by_s is not None:
                date = (await server.get("/api/plans")).headers["Date"]
                seen.append((parsedate_to_datetime(date), off_by_s))
        if self.offsets.database is not None:
            async with self.stage.site.db.read() as connection:
                now = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
            seen.append((now, self.offsets.database))
        return sum(abs(shown.timestamp() - time.time() - off_by_s) < _SEEN_WITHIN_S for shown, off_by_s in seen)

    def start(self, nth: int) -> Server:
        off_by_s = self.offsets.servers[nth]
        clock: Settings = {} if off_by_s is None else wrong_clock(off_by_s)
        return self.stage.site.start_server(TZ=self.offsets.timezone, **clock)


async def _load(clock: Clock, folder: Path, seed: str, number: int, postgres_url: str | None) -> Outcome:
    outcome = Outcome(done=number)
    offsets = _offsets(clock)
    with _a_database(offsets, postgres_url) as url:
        async with a_stage(folder, postgres_url=url, CONNECTED_YOU_TIMEOUT_SECONDS=_TIMEOUT_S) as stage:
            round_ = _Round(offsets, stage, await stage.orders(number))
            await round_.play(seed)
            outcome.counts["wrong clocks"] = await round_.wrong()
            disturbed = {reference_of(order_id) for order_id in round_.clients.broken}
            outcome.verdict = await stage.judge(disturbed=disturbed)
            swept = await swept_attempts(stage.site.db)
            outcome.counts.update((await stage.site.supplier.get("state"))["faults"])
    outcome.counts["servers killed"] = 1
    outcome.counts["swept after a kill"] = len(swept)
    outcome.failures += [
        f"{clock.name}: {attempt.reference} was swept while its server lived"
        for attempt in swept
        if attempt.reference not in disturbed
    ]
    return outcome


@contextmanager
def _a_database(offsets: _Offsets, postgres_url: str | None) -> Iterator[str | None]:
    if offsets.database is None:
        yield postgres_url
        return
    folder = Path(tempfile.mkdtemp(prefix="tribi-clock-")).resolve()
    folder.chmod(0o711)  # root's server is another user's
    try:
        with a_wrong_database(folder, offsets.database, offsets.timezone) as url:
            yield url
    finally:
        shutil.rmtree(folder)


_FATES = ("hold_before", "hold_after", "hang_after", "hold_before-status_422")
_SLEEPERS_TIMEOUT_S = "10"


async def _sleep(folder: Path, number: int, postgres_url: str | None) -> Outcome:
    """
    A server is stopped with calls in flight for longer than the sweep's age, and goes on when the others have given them up, and a
    person has settled some: an eSIM that it hears of is taken once, whatever else it brings changes nothing.
    """
    outcome = Outcome(done=number)
    async with a_stage(folder, postgres_url=postgres_url, CONNECTED_YOU_TIMEOUT_SECONDS=_SLEEPERS_TIMEOUT_S) as stage:
        site, sleeper = stage.site, await stage.server()
        await stage.server()
        orders = await stage.orders(number)
        fates = dict(zip(orders, cycle(_FATES), strict=False))
        for order_id, fate in fates.items():
            await site.script(order_id, fate)
        calls = [sleeper.activating(order_id) for order_id in orders]
        hanging = sum(fate == "hang_after" for fate in fates.values())
        await site.held(number - hanging)
        await site.hanging(hanging)
        sleeper.send(signal.SIGSTOP)
        await site.release()
        await site.becomes("unknown", *orders, limit_s=_SWEPT_WITHIN_S)
        for order_id in orders:
            if fates[order_id] == "hold_after":
                await _type_in(stage, order_id)
        sleeper.send(signal.SIGCONT)
        outcome.counts.update([f"woke to {reply.status}" for reply in await asyncio.gather(*calls)])
        statuses = await stage.statuses()
        sent = Counter(request["reference"] for request in await stage.requests())
        outcome.verdict = await stage.judge()
    for order_id, fate in fates.items():
        expected = "unknown" if fate in {"hang_after", "hold_before-status_422"} else "provisioned"
        if (statuses[order_id], sent[reference_of(order_id)]) != (expected, 1):
            found = f"{statuses[order_id]} after {sent[reference_of(order_id)]} requests"
            outcome.failures.append(f"a sleeper's order ({fate}) is {found}, not {expected} after one")
    outcome.counts["calls slept over"] = number
    return outcome


async def _type_in(stage: Stage, order_id: int) -> None:
    [issued] = stage.site.issued(order_id)
    esim_id = await stage.site.esim_id(order_id)
    code = ActivationCode.read(issued.activation_code)
    await resolve_issued(
        stage.site.db, stage.vault, esim_id, code=code, iccid=None, reason="their records say so", actor="cli:a test"
    )


async def run(
    folder: Path,
    *,
    n: int,
    seed: int,
    tick: Tick = no_tick,
    clocks: Sequence[Clock] = CLOCKS,
    with_sleeper: bool = True,
    postgres_url: str | None = None,
) -> Outcome:
    """
    Args:
        n: activations, in equal parts under each clock (and by the sleeper).
    """
    each = n // (len(clocks) + with_sleeper)
    outcome = Outcome()

    def add(part: Outcome) -> None:
        outcome.done += part.done
        outcome.counts.update(part.counts)
        outcome.verdict += part.verdict
        outcome.failures.extend(part.failures)
        tick(part.done)

    for number, clock in enumerate(clocks):
        place = folder / str(number)
        place.mkdir()
        add(await _load(clock, place, f"{seed}/{number}", each, postgres_url))
    if with_sleeper:
        place = folder / "sleeper"
        place.mkdir()
        add(await _sleep(place, each, postgres_url))
    outcome.require("servers killed", len(clocks))
    outcome.require("wrong clocks", sum(clock.number for clock in clocks))
    return outcome
