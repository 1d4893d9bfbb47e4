"""
G4: the database is killed, stopped, cut off and stands still under load, and COMMITs lose their answers. Whoever asks meanwhile is
told that it is away (503) or gets an answer; all goes on by itself; what was lost is read back and never sent again.

Two servers on one PostgreSQL of the stage's own, on a real disk, with fsync and synchronous_commit as they come.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

import psycopg
from sqlalchemy import text

from app.errors import DatabaseUnavailable
from app.failpoints import Point
from app.postgres import lease
from app.postgres.leftovers import commands, name_of
from app.services.esims.intent import reference_of
from tests.api.serving import Reply, a_name, a_wish
from tests.chaos.db_proxy import DatabaseProxy
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.stage import ForkedServer, Stage, a_stage
from tests.chaos.strikes import ASK, Strike
from tests.postgres.clients import postmasters
from tests.processes.programs import until

KILLED = "postmaster killed"
STOPPED = "server stopped at once"
"""SIGQUIT to the postmaster, which is what `pg_ctl stop -m immediate` sends."""
TERMINATED = "backend terminated"
STOOD_STILL = "database stood still"
LOST_ONE = "answer to the COMMIT of transaction one lost"
LOST_TWO = "answer to the COMMIT of transaction two lost"
DROPPED_ONE = "COMMIT of transaction one cut off"
DROPPED_TWO = "COMMIT of transaction two cut off"
LOST_ORDER = "answer to the COMMIT of a new order lost"

MIX = {
    KILLED: 10,
    STOPPED: 5,
    TERMINATED: 20,
    STOOD_STILL: 2,
    LOST_ONE: 10,
    LOST_TWO: 10,
    DROPPED_ONE: 2,
    DROPPED_TWO: 2,
    LOST_ORDER: 3,
}
"""Ten times this is what is to be reached."""

_FOR_ALL = {KILLED, STOPPED, TERMINATED, STOOD_STILL}
"""After these it is seen that all goes on; the others cost one connection each."""

_AT_POINT = {
    LOST_ONE: (Point.INTENT_WRITTEN, "lose_commit"),
    LOST_TWO: (Point.ANSWER_WRITTEN, "lose_commit"),
    DROPPED_ONE: (Point.INTENT_WRITTEN, "drop_commit"),
    DROPPED_TWO: (Point.ANSWER_WRITTEN, "drop_commit"),
}
_BACK_WITHIN_S = 120
_PAUSE_S = 0.3
_TIMEOUT_S = 10
"""Of the provider: a kill isn't to outlast an attempt's deadline, for which the sweep would call it unknown."""

_LATENCY_S = 0.02
_APPLICATIONS = ["tribi-server", "tribi-jobs"]

# The guardian starts the server again, as ever; only that it gives up after five starts within a minute is taken from it.
_TIRELESS_GUARDIAN = (
    "import sys; sys.path.insert(0, sys.argv[1]); from app.postgres import guardian; "
    "guardian._STARTS = 10**6; guardian.main(sys.argv[2])"
)
_JOBS_LEFT = text(
    "SELECT status::text FROM procrastinate_jobs WHERE task_name = 'esims.provisioned' AND status IN ('todo', 'doing')"
)
_JOBS_FAILED = text("SELECT task_name FROM procrastinate_jobs WHERE status = 'failed'")
_AGE = text("UPDATE procrastinate_events SET at = at - interval '6 minutes'")
_END_LEASES = text("UPDATE outgoing_mails SET leased_until = now() WHERE leased_until > now()")
_DUE = text("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE status = 'todo' AND scheduled_at > now()")
_LOOK_EVERY_S = 1
_BUGS = ("sweep.failed", "esims.watch_failed", "esims.answer_not_storable", "esims.provider_adapter_failed")
"""What a server logs that met an error which it didn't foresee."""


async def run(
    folder: Path,
    *,
    n: int = sum(MIX.values()),
    seed: int,
    tick: Tick = no_tick,
    mix: Mapping[str, int] = MIX,
    stall_s: float = 20,
    clients: int = 24,
) -> Outcome:
    """
    Args:
        n: disturbances, one after the other.
        mix: so many of each in a row of `sum(mix.values())`; the seed shuffles each row.
        stall_s: how long the database stands still at a time.
        clients: who place and activate orders all the time.
    """
    rng = random.Random(f"{seed}/disturbances")  # noqa: S311 - reproducible is what is wanted
    disturbances: list[str] = []
    while len(disturbances) < n:
        disturbances += rng.sample([what for what, number in mix.items() for _ in range(number)], sum(mix.values()))
    async with _playing(folder, disturbances[:n], rng, stall_s) as play:
        return await play.act(clients, tick)


@asynccontextmanager
async def _playing(folder: Path, disturbances: list[str], rng: random.Random, stall_s: float) -> AsyncIterator["_Play"]:
    with patch.object(lease, "_GUARDIAN", _TIRELESS_GUARDIAN):
        async with a_stage(folder, on_disk=True, CONNECTED_YOU_TIMEOUT_SECONDS=str(_TIMEOUT_S)) as stage:
            with DatabaseProxy(stage.site.settings["DATABASE_URL"]) as proxy:
                stage.site.settings["DATABASE_URL"] = f"{proxy.url}&application_name={_APPLICATIONS[0]}"
                await stage.site.supplier.post("settings", {"latency_s": _LATENCY_S})
                play = _Play(stage, proxy, disturbances, rng, stall_s)
                await play.open()
                yield play


def _itself(server: ForkedServer) -> ForkedServer:
    return server


def _send(pid: int, kind: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # a backend that was ending just then
        os.kill(pid, kind)


def _stands_still(pid: int) -> bool:
    """Stopped, or at its end. See proc_pid_stat(5); the command before it may hold anything."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in {"T", "Z"}


class _Play:
    def __init__(
        self, stage: Stage, proxy: DatabaseProxy, disturbances: list[str], rng: random.Random, stall_s: float
    ) -> None:
        assert stage.data_dir is not None
        self.stage = stage
        self.proxy = proxy
        self.disturbances = disturbances
        self.rng = rng
        self.stall_s = stall_s
        self.home = stage.data_dir / "postgres"
        self.outcome = Outcome()
        self.servers: list[ForkedServer] = []
        self.order_ids: list[int] = []
        self.is_over = False

    async def open(self) -> None:
        """Orders that are to lose a COMMIT are made first: a server reads its plan of strikes as it starts."""
        losing = [what for what in self.disturbances if what in _AT_POINT]
        self.order_ids = await self.stage.orders(max(len(losing), 1))
        self.losing = list(zip(losing, self.order_ids, strict=False))
        self.stage.plan.write(self._strike(what, reference_of(order_id)) for what, order_id in self.losing)
        self.servers = [await self.stage.start_server(armed=True) for _ in range(2)]
        await asyncio.gather(*(until(server.is_ready) for server in self.servers))

    def _strike(self, what: str, reference: str) -> Strike:
        """The process asks the proxy right before its COMMIT; its own next one is that."""
        point, do = _AT_POINT[what]
        said = {"do": do, "match": "provisioning_attempts", "count_as": f"{what}: {reference}"}
        return Strike(reference, point, ASK, what, socket=str(self.proxy.control), say=said)

    async def act(self, clients: int, tick: Tick) -> Outcome:
        slowest_s = 0.0
        async with asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(self._buy(random.Random(self.rng.random())))  # noqa: S311
            tasks.create_task(self._look())
            for what in self.disturbances:
                await asyncio.sleep(self.rng.uniform(0, _PAUSE_S))
                await self._disturb(what)
                if what in _FOR_ALL:
                    slowest_s = max(slowest_s, await self._all_goes_on())
                self.outcome.done += 1
                tick(1)
                if self.outcome.failures:
                    break  # the first is what matters
            self.is_over = True
        self.outcome.figures["longest until all went on, s"] = round(slowest_s, 2)
        await self._look_back()
        return self.outcome

    # --- disturbances

    async def _disturb(self, what: str) -> None:
        match what:
            case "postmaster killed":
                await self._end_postmaster(signal.SIGKILL)
            case "server stopped at once":
                await self._end_postmaster(signal.SIGQUIT)
            case "backend terminated":
                await self._terminate()
            case "database stood still":
                await self._stand_still()
            case "answer to the COMMIT of a new order lost":
                await self._lose_order()
                return
            case _:
                await self._lose(*self.losing.pop(0))
                return
        self.outcome.counts[what] += 1

    async def _end_postmaster(self, kind: signal.Signals) -> None:
        [postmaster] = await until(lambda: postmasters(self.home), _BACK_WITHIN_S)
        os.kill(postmaster, kind)
        await until(lambda: postmaster not in commands())

    async def _terminate(self) -> None:
        """One that is at work, if any is."""

        async def has_terminated() -> bool:
            try:
                async with await psycopg.AsyncConnection.connect(self.stage.site.db.url, autocommit=True) as connection:
                    cursor = await connection.execute(
                        "SELECT pid, state = 'idle' FROM pg_stat_activity WHERE application_name = ANY(%s) ORDER BY pid",
                        [_APPLICATIONS],
                    )
                    rows = await cursor.fetchall()
                    busy = [pid for pid, is_idle in rows if not is_idle]
                    victim = self.rng.choice(busy or [pid for pid, _ in rows])
                    cursor = await connection.execute("SELECT pg_terminate_backend(%s)", [victim])
                    return await cursor.fetchone() == (True,)
            except (psycopg.OperationalError, IndexError):  # not back yet, or nobody has connected yet
                return False

        await until(has_terminated, _BACK_WITHIN_S)

    async def _stand_still(self) -> None:
        [postmaster] = await until(lambda: postmasters(self.home), _BACK_WITHIN_S)
        os.kill(postmaster, signal.SIGSTOP)  # first, for then there are no new ones
        name = name_of(self.home).encode()
        stopped = [pid for pid, line in commands().items() if name in line]
        for pid in stopped:
            _send(pid, signal.SIGSTOP)
        await asyncio.sleep(self.stall_s)
        stood_still = all(_stands_still(pid) for pid in stopped)
        for pid in stopped:
            _send(pid, signal.SIGCONT)
        if not stood_still:
            self.outcome.failures.append("the database did not stand still")

    async def _lose(self, what: str, order_id: int) -> None:
        """An activation that loses its COMMIT: in transaction one nothing is sent, in transaction two nothing is sent again."""
        server = self.rng.choice(self.servers)
        reply = await server.activate(order_id)
        reference = reference_of(order_id)
        if self.proxy.counts()[f"{what}: {reference}"] != 1:
            self.outcome.failures.append(f"{reference}: its COMMIT was not lost, and the client got {reply.status}")
            return
        self.outcome.counts[what] += 1
        if what in {LOST_TWO, DROPPED_TWO}:
            if reply.status != 201:
                self.outcome.failures.append(f"{reference}: {what}, and the client got {reply.status}")
            await self._expect(order_id, "provisioned", ["delivered"], requests=1)
            return
        if self._kind_of(reply) != "503 database-unavailable":
            self.outcome.failures.append(f"{reference}: {what}, and the client got {self._kind_of(reply)}")
        is_on_file = what == LOST_ONE
        await self._expect(order_id, "pending", ["not_sent"] if is_on_file else [], requests=0)
        await self._activate(order_id, lambda: server)
        left = ["not_sent", "delivered"] if is_on_file else ["delivered"]
        await self._expect(order_id, "provisioned", left, requests=1)

    async def _expect(self, order_id: int, status: str, outcomes: list[str], *, requests: int) -> None:
        reference = reference_of(order_id)

        async def is_so() -> bool:
            site = self.stage.site
            return (await site.status(order_id), await site.outcomes(order_id)) == (status, outcomes)

        try:
            await until(is_so, _BACK_WITHIN_S)
        except AssertionError:
            found = (await self.stage.site.status(order_id), await self.stage.site.outcomes(order_id))
            self.outcome.failures.append(f"{reference} is {found}, not {(status, outcomes)}")
        received = [one for one in await self.stage.requests() if one["reference"] == reference]
        if len(received) != requests:
            self.outcome.failures.append(f"{reference} was sent {len(received)} times, not {requests}")

    async def _lose_order(self) -> None:
        """Whichever is placed next; its client sends it again under its key (`_place`)."""
        before = self.proxy.counts()[LOST_ORDER]
        self.proxy.ask("lose_commit", match="INSERT INTO idempotency_keys", count_as=LOST_ORDER)
        await until(lambda: self.proxy.counts()[LOST_ORDER] > before, _BACK_WITHIN_S)
        self.outcome.counts[LOST_ORDER] += 1

    async def _all_goes_on(self) -> float:
        """Waits until each server has placed and activated an order that was begun after the disturbance. Returns the seconds."""
        begun = time.monotonic()
        await until(self._is_reached, _BACK_WITHIN_S)
        async with asyncio.timeout(_BACK_WITHIN_S):
            await asyncio.gather(*(self._buy_once(partial(_itself, server)) for server in self.servers))
        return time.monotonic() - begun

    async def _is_reached(self) -> bool:
        """By the harness's own pool, which loses its connections, too."""
        try:
            return bool(await self.stage.statuses())
        except DatabaseUnavailable:
            return False

    # --- clients

    async def _buy(self, rng: random.Random) -> None:
        while not self.is_over:
            await self._buy_once(lambda: rng.choice(self.servers))

    async def _buy_once(self, any_server: Callable[[], ForkedServer]) -> None:
        await self._activate(await self._place(any_server), any_server)

    async def _place(self, any_server: Callable[[], ForkedServer]) -> int:
        """Sends the same order under the same key until it is taken, and once more: it is the same one."""
        key, wish = a_name("key"), a_wish(self.stage.site.sku)

        async def place() -> Reply:
            return await any_server().shop.place(wish, key=key)

        reply = await self._insist(place, {"201"}, {"409 idempotency-key-in-progress"})
        again = await self._insist(place, {"201"}, {"409 idempotency-key-in-progress"})
        if again.json()["id"] != reply.json()["id"]:
            self.outcome.failures.append("one idempotency key has placed two orders")
        order_id = int(reply.json()["id"])
        self.order_ids.append(order_id)
        return order_id

    async def _activate(self, order_id: int, any_server: Callable[[], ForkedServer]) -> None:
        await self._insist(
            lambda: any_server().activate(order_id),
            # A database that stands still for longer than the attempt's deadline leaves an unknown: that is an answer, too.
            {"200", "201", "502 activation-outcome-unknown", "409 activation-outcome-unknown"},
            {
                "502 provider-unreachable",
                "503 provider-busy",
            },  # nothing was sent: the intent, or its COMMIT, took too long
        )

    async def _look(self) -> None:
        """Reads that change nothing."""
        number = 0
        while not self.is_over:
            number += 1
            path = ("/api/plans", "/api/orders", "/api/esims", "/api/esims/1")[number % 4]
            server = self.servers[number % 2]
            await self._insist(partial(server.get, path), {"200"}, set())

    async def _insist(self, send: Callable[[], Awaitable[Reply]], wanted: set[str], bearable: set[str]) -> Reply:
        """Sends until it gets what is wanted. Besides that it may be told that the database is away, and `bearable`."""
        while True:
            reply = await send()
            kind = self._kind_of(reply)
            self.outcome.counts[f"replies: {kind}"] += 1
            if kind in wanted:
                return reply
            if kind == "503 database-unavailable":
                if "Retry-After" not in reply.headers:
                    self.outcome.failures.append("a 503 came without Retry-After")
            elif kind not in bearable:
                self.outcome.failures.append(f"somebody was told {kind}")
                return reply
            await asyncio.sleep(0.05)

    @staticmethod
    def _kind_of(reply: Reply) -> str:
        return str(reply.status) if reply.status < 400 else " ".join(map(str, reply.problem))

    # --- the end

    async def _look_back(self) -> None:
        outcome, stage = self.outcome, self.stage
        await stage.recover(self.order_ids, *self.servers)
        await self._let_the_queue_end()
        for what in set(self.disturbances):
            outcome.require(what, self.disturbances.count(what))
        for server in self.servers:
            if not server.is_running:
                outcome.failures.append("a server has ended")
            for bug in _BUGS:
                if server.events(bug):
                    outcome.failures.append(f"a server has logged {bug}")
        placed = len(await stage.statuses())
        if placed != len(self.order_ids):
            outcome.failures.append(f"{len(self.order_ids)} orders were wanted, and {placed} are there")
        outcome.counts["orders"] = placed
        outcome.verdict = await stage.judge(activated=self.order_ids)

    async def _let_the_queue_end(self) -> None:
        """Every job is done; the sweep puts those back whose worker found no database when it wanted to say so."""

        async def has_ended() -> bool:
            async with self.stage.site.db.begin() as connection:
                left = set(await connection.scalars(_JOBS_LEFT))
                if left:
                    for time_passes in (_AGE, _END_LEASES, _DUE):
                        await connection.execute(time_passes)
            await asyncio.sleep(_LOOK_EVERY_S if left else 0)
            return not left

        await until(has_ended, _BACK_WITHIN_S)
        async with self.stage.site.db.read() as connection:
            for task in await connection.scalars(_JOBS_FAILED):
                self.outcome.failures.append(f"a job {task} has failed")
