"""G19: clocks that are wrong. Leases and sweeps compare the database's time with the database's time, and nothing else."""

import asyncio
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

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

_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S


@dataclass(frozen=True)
class Clock:
    """
    What is wrong with the clocks of an installation: by how many seconds each is off, worked out as its programs start.

    Attributes:
        servers: of the two API processes; None for a clock that is right.
        database: the same.
    """

    name: str
    servers: tuple[Callable[[], float] | None, Callable[[], float] | None] = (None, None)
    database: Callable[[], float] | None = None
    timezone: str = "UTC"


def _off(seconds: float) -> Callable[[], float]:
    return lambda: seconds


CLOCKS = (
    Clock("server an hour behind", (_off(-_HOUR_S), None)),
    Clock("server an hour ahead", (_off(_HOUR_S), None)),
    Clock("server a day ahead", (_off(_DAY_S), None)),
    Clock("servers five minutes apart", (_off(-150), _off(150))),
    Clock("servers as summer begins", (lambda: shortly_before(SUMMER_BEGINS),) * 2, timezone=BERLIN),
    Clock("servers as winter begins", (lambda: shortly_before(WINTER_BEGINS),) * 2, timezone=BERLIN),
    Clock("database an hour behind", database=_off(-_HOUR_S)),
    Clock("database an hour ahead", database=_off(_HOUR_S)),
    Clock("database a day ahead", database=_off(_DAY_S)),
    Clock("database as winter begins", database=lambda: shortly_before(WINTER_BEGINS), timezone=BERLIN),
)


@dataclass
class _Round:
    """One clock's load: plain activations, a few faults of the supplier's, and a server that is killed half-way."""

    clock: Clock
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

    def start(self, nth: int) -> Server:
        off_by_s = self.clock.servers[nth]
        clock: Settings = {} if off_by_s is None else wrong_clock(off_by_s())
        return self.stage.site.start_server(TZ=self.clock.timezone, **clock)


async def _load(clock: Clock, folder: Path, seed: str, number: int, postgres_url: str | None) -> Outcome:
    outcome = Outcome(done=number)
    async with _a_stage(clock, folder, postgres_url) as stage:
        round_ = _Round(clock, stage, await stage.orders(number))
        await round_.play(seed)
        disturbed = {reference_of(order_id) for order_id in round_.clients.broken}
        outcome.verdict = await stage.judge(disturbed=disturbed)
        swept = await swept_attempts(stage.site.db)
        faults = (await stage.site.supplier.get("state"))["faults"]
    outcome.counts.update(faults)
    outcome.counts["servers killed"] = 1
    outcome.counts["swept after a kill"] = len(swept)
    outcome.failures += [
        f"{clock.name}: {attempt.reference} was swept while its server lived"
        for attempt in swept
        if attempt.reference not in disturbed
    ]
    return outcome


@asynccontextmanager
async def _a_stage(clock: Clock, folder: Path, postgres_url: str | None) -> AsyncIterator[Stage]:
    with _a_database(clock, postgres_url) as url:
        async with a_stage(folder, postgres_url=url, CONNECTED_YOU_TIMEOUT_SECONDS=_TIMEOUT_S) as stage:
            yield stage


@contextmanager
def _a_database(clock: Clock, postgres_url: str | None) -> Iterator[str | None]:
    if clock.database is None:
        yield postgres_url
        return
    folder = Path(tempfile.mkdtemp(prefix="tribi-clock-")).resolve()
    folder.chmod(0o711)  # root's server is another user's
    try:
        with a_wrong_database(folder, clock.database(), clock.timezone) as url:
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
    async with a_stage(
        folder, postgres_url=postgres_url, CONNECTED_YOU_TIMEOUT_SECONDS=_SLEEPERS_TIMEOUT_S
    ) as stage:
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
        await sleeper.go_on()
        outcome.counts.update(f"woke to {(await call).status}" for call in calls)
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
    return outcome
