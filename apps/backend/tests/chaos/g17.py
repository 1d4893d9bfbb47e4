"""
G17: the release before this one is replaced by this one under load: its servers go on while the database is migrated, old and new
serve side by side, one of the old is asked to end and finishes, another is killed after its time of grace. No call fails for it.
"""

import asyncio
import os
import random
import signal
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psycopg
from pydantic import SecretStr
from sqlalchemy import text

from app.house import House
from app.services.esims.intent import reference_of
from app.settings import Settings
from app.vault import Keyring
from tests.api.serving import Shop, a_wish
from tests.chaos.oracle import Evidence, judge
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.releases import NEWEST, Release, before_the_newest_migration
from tests.chaos.reverse_proxy import Balancer, a_balancer
from tests.chaos.stage import a_server_of_its_own
from tests.chaos.traffic import LockWaits, Traffic
from tests.conftest import KEY, other_database
from tests.processes.installations import Installation, Server, a_site
from tests.processes.programs import Program, until
from tests.processes.programs import run as command
from tests.stand_in import read_ledger

ROLLED = "rolled"
ENDED = "servers and workers that were asked to end, and did"
KILLED = "servers killed after their time of grace, with an order under way"
LEFT = "servers that the balancer left because they were unready"

_SKU = "es-5gb"
_CATALOGUE = (
    "sku,name,country_iso2,data_mb,validity_days,price_minor,currency,connected_you_plan_code\n"
    f"{_SKU},Spain 5 GB,ES,5120,30,1290,EUR,CY-ES-5GB\n"
)
_DELAY = "SHUTDOWN_DELAY_SECONDS"
_SETTINGS = {"PROVIDER_CIRCUIT_FAILURES": "0", "LOG_LEVEL": "INFO"}
_LATENCY_S = 0.05
_BETWEEN = 25
"""Calls, after each step, so that it is seen what it did to them."""

_JOBS = text(
    "SELECT status::text, count(*) AS number FROM procrastinate_jobs WHERE task_name = 'esims.provisioned' GROUP BY status"
)
_TIME_PASSES = (
    # A killed server is taken for dead after half a minute, and what it had in hand is let go of after two.
    text("DELETE FROM procrastinate_workers WHERE last_heartbeat < now() - interval '15 seconds'"),
    text(
        "UPDATE outgoing_mails SET leased_until = NULL WHERE sent_at IS NULL AND created_at < now() - interval '15 seconds'"
    ),
    text("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE status = 'todo' AND scheduled_at IS NOT NULL"),
)
_TABLES = "SELECT string_agg(format('%I', tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"


@dataclass(frozen=True)
class Limits:
    """
    Attributes:
        shutdown_delay_s: what a server that was asked to end gives the balancer to hear of it.
    """

    lock_wait_s: float = 0.2
    shutdown_delay_s: float = 3


async def run(
    folder: Path,
    *,
    n: int,
    seed: int,
    tick: Tick = no_tick,
    per_s: float = 50,
    postgres_url: str | None = None,
    limits: Limits = Limits(),
) -> Outcome:
    """
    Args:
        n: times that the older release is rolled to this one, each time on a database of its own.
        postgres_url: of a server on which databases may be made; None for one of the run's own.
    """
    draw = random.Random(f"{seed}/rolls")  # noqa: S311 - a schedule, not a secret
    outcome = Outcome()
    older = before_the_newest_migration(folder)
    outcome.counts[f"from {older.commit}"] = n
    with nullcontext((postgres_url, None)) if postgres_url else a_server_of_its_own() as (server_url, _):
        template, secret = await _stocked(folder, server_url, older)
        for number in range(n):
            home = folder / f"roll-{number}"
            home.mkdir()
            url = _a_copy(server_url, template, f"{template}_{number}")
            async with a_site(home, url) as site, a_balancer() as balancer:
                site.settings |= _SETTINGS | {_DELAY: f"{limits.shutdown_delay_s:g}"}
                site.secret, site.sku = secret, _SKU
                roll = _Roll(site, balancer, older, draw, outcome, per_s)
                try:
                    await roll.play()
                finally:
                    for program in site.programs:
                        program.clear_away()
            outcome.done += 1
            tick(1)
    for kind in (ROLLED, KILLED, LEFT):
        outcome.require(kind, n)
    if outcome.figures["longest wait of a migration for a table, s"] > limits.lock_wait_s:
        outcome.failures.append(f"a migration waited for a table for more than {limits.lock_wait_s:g} s")
    return outcome


async def _stocked(folder: Path, server_url: str, release: Release) -> tuple[str, str]:
    """A database as the release makes it, with a plan on sale and a service key: its name and the key's secret."""
    name = f"rolled_{os.getpid()}"
    url = _a_copy(server_url, "template1", name)
    (folder / "catalogue.csv").write_text(_CATALOGUE)
    settings = {
        "DATABASE_URL": url,
        "ENCRYPTION_KEY": KEY,
        "ESIM_PROVIDER": "CONNECTED_YOU",
        "TRIBI_DATA_DIR": str(folder / "data"),
    } | release.settings
    done = [await command(folder, settings, "migrate")]
    done += await asyncio.gather(
        command(folder, settings, "catalogue", "import", "catalogue.csv", "--yes"),
        command(folder, settings, "keys", "create", "shop", "--scope", "orders", "--scope", "esims"),
    )
    assert [one.status for one in done] == [0, 0, 0], [one.stderr for one in done]
    return name, done[2].stdout.strip()


def _a_copy(server_url: str, template: str, name: str) -> str:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    return other_database(server_url, name)


@dataclass
class _Roll:
    site: Installation
    balancer: Balancer
    older: Release
    draw: random.Random
    outcome: Outcome
    per_s: float
    disturbed: set[int] = field(default_factory=set)

    async def play(self) -> None:
        worker = self._worker(self.older)
        old = [self._server(self.older) for _ in range(2)]
        await asyncio.gather(*(self._is_taken_up(server) for server in old))
        url = f"http://127.0.0.1:{self.balancer.port}"
        traffic = Traffic(Shop(url, self.site.db, self.site.http, old[0].shop.bearer, 0), _SKU, self.per_s)
        await self.site.supplier.post("settings", {"latency_s": _LATENCY_S})
        selling = asyncio.create_task(traffic.go_on())
        await traffic.calls_more(_BETWEEN)
        new = [self._server(NEWEST) for _ in range(2)]
        await asyncio.gather(*(self._listens(server) for server in new))
        self._require(not await self._any_ready(new), "a server was ready before its migration")
        await self._migrate()
        self._require(await self._all_ready(old), "an older server isn't ready on the newer schema")
        await traffic.calls_more(_BETWEEN)
        steps = [self._roll_servers(old, new, traffic), self._roll_worker(worker)]
        if self.draw.random() < 0.5:
            steps.reverse()
        for step in steps:
            await step
            await traffic.calls_more(_BETWEEN)
        await self._ended(new[0], NEWEST, traffic)  # the newest release as the older one of the next roll
        traffic.end()
        await selling
        await self._judge(traffic)

    # --- programs

    def _server(self, release: Release) -> Server:
        return self.site.start_server(**release.settings)

    def _worker(self, release: Release) -> Program:
        return self.site.start("worker", **release.settings)

    async def _is_taken_up(self, server: Server) -> None:
        self.balancer.servers.add(server.shop.port)
        await until(lambda: server.shop.port in self.balancer.ready, 120)

    async def _listens(self, server: Server) -> None:
        await until(lambda: server.answers("/healthz"), 120)

    async def _any_ready(self, servers: list[Server]) -> bool:
        return any([await server.is_ready() for server in servers])

    async def _all_ready(self, servers: list[Server]) -> bool:
        return all([await server.is_ready() for server in servers])

    # --- steps

    async def _migrate(self) -> None:
        """Beside a transaction that holds all tables until the migration has met it."""
        waits = LockWaits(self.site.db.url)
        looking = asyncio.create_task(waits.keep_looking())
        migrating = self.site.start("migrate")
        async with await psycopg.AsyncConnection.connect(self.site.db.url) as report:
            [tables] = await (await report.execute(_TABLES)).fetchone() or [""]
            await report.execute(f"LOCK TABLE {tables} IN ACCESS SHARE MODE".encode())
            await until(lambda: len(waits.seen) > 1 or waits.is_waiting_for_ends or not migrating.is_running, 120)
        self._require(await migrating.ended(120) == 0, f"`tribi migrate` failed: {migrating.log.read_text()[-500:]}")
        looking.cancel()
        self.outcome.counts["waits of migrations for tables"] += len(waits.seen)
        self._longest("longest wait of a migration for a table, s", max(waits.seen.values(), default=0))

    async def _roll_servers(self, old: list[Server], new: list[Server], traffic: Traffic) -> None:
        await asyncio.gather(*(self._is_taken_up(server) for server in new))
        await traffic.calls_more(_BETWEEN)
        await self._ended(old[0], self.older, traffic)
        await self._killed(old[1])

    async def _roll_worker(self, worker: Program) -> None:
        self._worker(NEWEST)
        worker.send(signal.SIGTERM)
        self._require(await worker.ended(60) == 0, "the older worker didn't end well")
        self.outcome.counts[ENDED] += 1

    async def _asked_to_end(self, server: Server, release: Release) -> None:
        """The balancer leaves it as soon as it is unready; one of a release that doesn't say so is taken out by hand before."""
        port = server.shop.port
        if not release.knows(_DELAY):
            self.balancer.take_out(port)
            await until(lambda: not self.balancer.open_to[port])
        server.send(signal.SIGTERM)
        await until(lambda: port not in self.balancer.ready)
        self.outcome.counts[LEFT] += release.knows(_DELAY)

    async def _ended(self, server: Server, release: Release, traffic: Traffic) -> None:
        await self._asked_to_end(server, release)
        self._require(await server.ended(60) == 0, "a server didn't end well")
        self.outcome.counts[ENDED] += 1
        await traffic.calls_more(_BETWEEN)

    async def _killed(self, server: Server) -> None:
        """With a call in flight that its supplier never answers: what a time of grace ends that is too short."""
        placed = await server.shop.place(a_wish(_SKU))
        order_id = int(placed.json()["id"])
        self.disturbed.add(order_id)
        await self.site.script(order_id, "hang_after")
        call = server.activating(order_id)
        await self.site.hanging()
        await self._asked_to_end(server, self.older)
        await until(lambda: not self.balancer.open_to[server.shop.port])

        async def has_left() -> bool:
            return await server.answers("/healthz") == 0

        await until(has_left)
        await server.kill()
        [heard] = await asyncio.gather(call, return_exceptions=True)
        self._require(isinstance(heard, aiohttp.ClientError), f"who was cut off heard {heard}")
        await self.site.expire(order_id)
        await self.site.becomes("unknown", order_id)
        self.outcome.counts[KILLED] += 1

    # --- the end

    async def _judge(self, traffic: Traffic) -> None:
        jobs: dict[str, int] = {}

        async def are_done() -> bool:
            jobs.clear()
            async with self.site.db.begin() as connection:
                for statement in _TIME_PASSES:
                    await connection.execute(statement)
                jobs.update({row.status: row.number for row in await connection.execute(_JOBS)})
            return not jobs.keys() & {"todo", "doing"}

        await until(are_done, 120)
        self._require(jobs == {"succeeded": len(traffic.placed)}, f"of {len(traffic.placed)} jobs: {jobs}")
        settings = Settings(database_url=SecretStr(self.site.db.url), encryption_key=SecretStr(KEY))
        house = House(settings, self.site.db, Keyring.parse(KEY))
        await house.settle()
        received = await self.site.supplier.get("requests")
        disturbed = {reference_of(order_id) for order_id in self.disturbed}
        evidence = Evidence(read_ledger(self.site.ledger), received, disturbed, {*traffic.placed, *self.disturbed})
        self.outcome.verdict += await judge(self.site.db, house.vault, evidence)
        self.outcome.failures += traffic.failures
        for event in [event for program in self.site.programs for event in program.errors()]:
            self._require(event.get("order_id") in self.disturbed, f"logged: {event}")
        self.outcome.counts += traffic.counts
        self.outcome.counts[ROLLED] += 1
        self._longest("slowest call, s", traffic.slowest_s)

    def _require(self, is_so: bool, sentence: str) -> None:
        if not is_so:
            self.outcome.failures.append(sentence)

    def _longest(self, name: str, value: float) -> None:
        self.outcome.figures[name] = round(max(self.outcome.figures.get(name, 0), value), 3)
