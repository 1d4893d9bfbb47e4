"""G21: thousands wait in one process on a supplier that takes its time. Nobody else notices, and nothing is sent twice."""

import asyncio
import resource
import signal
import statistics
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from app.services.esim_providers import EsimProvisioningError, ProvisionRequest, SupplierUnreachable
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esim_providers.connected_you.wire import Wire
from app.services.esims.intent import reference_of
from tests.chaos.callers import Callers, Read
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.stage import Stage, a_stage
from tests.processes.installations import Server
from tests.processes.programs import until
from tests.stand_in import StandIn
from tests.stand_in.faults import TABLE

_READS_PER_S = 20
_POOL_SIZE = 10
_DESCRIPTORS = 256
"""What a server is started with; it may take as many as the hard limit allows."""

_LOOK_S = 0.2
_FAULT_TIMEOUT_S = 2
_QUIET_RETRIES = 1
_WAIT_S = 5
_CALLS_PER_S = 100
_OF_THE_SERVER = text("""
    SELECT count(*) FILTER (WHERE xact_start IS NOT NULL) AS busy,
           coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0) AS longest_s
    FROM pg_stat_activity WHERE application_name = 'tribi' AND datname = current_database() AND pid <> pg_backend_pid()
""")
_TRIED = text("SELECT reference FROM provisioning_attempts")


@dataclass(frozen=True)
class Limits:
    """What a server under overload must keep to."""

    plans_p99_ms: float = 100
    esim_p99_ms: float = 100
    memory_mb: float = 400
    transactions: float = _POOL_SIZE
    transaction_s: float = 5
    """None is open during a call to the supplier."""

    took_latencies: float = 2
    """All are done within so many times what the supplier takes."""


@dataclass
class _Watch:
    """What a server takes, looked at a few times a second: the most that was seen."""

    stage: Stage
    server: Server
    memory_mb: float = 0
    transactions: int = 0
    transaction_s: float = 0

    async def go_on(self) -> None:
        while True:
            listing = await asyncio.create_subprocess_exec(
                "/bin/ps", "-o", "rss=", "-p", str(self.server.pid), stdout=asyncio.subprocess.PIPE
            )
            self.memory_mb = max(self.memory_mb, int((await listing.communicate())[0]) / 1024)
            async with self.stage.site.db.read() as connection:
                row = (await connection.execute(_OF_THE_SERVER)).one()
            self.transactions = max(self.transactions, row.busy)
            self.transaction_s = max(self.transaction_s, float(row.longest_s))
            await asyncio.sleep(_LOOK_S)


async def run(
    folder: Path,
    *,
    n: int,
    seed: int,
    tick: Tick = no_tick,
    latency_s: float = 14,
    arriving_in_s: float = 10,
    places: int = 50,
    limits: Limits = Limits(),
    postgres_url: str | None = None,
) -> Outcome:
    """
    Args:
        n: activations that wait at once.
        latency_s: of the supplier.
        arriving_in_s: the time in which they come, at an even pace; less than the latency.
        places: calls to the supplier that a server allows at once, against which ten times as many run.
    """
    outcome = Outcome(done=n)
    async with a_stage(folder, postgres_url=postgres_url, DATABASE_POOL_SIZE=str(_POOL_SIZE)) as stage:
        await _overload(stage, outcome, n, latency_s, arriving_in_s)
        tick(n)
        await _more_than_there_are_places_for(stage, outcome, places)
        outcome.verdict = await stage.judge()
    await _every_fault(outcome)
    if outcome.verdict.false_unknowns:
        outcome.failures.append(f"{outcome.verdict.false_unknowns} outcomes are unknown that never left the process")
    for name, limit in vars(limits).items():
        if outcome.figures[name] > limit:
            outcome.failures.append(f"{name} is {outcome.figures[name]}, over {limit:g}")
    return outcome


async def _overload(stage: Stage, outcome: Outcome, n: int, latency_s: float, arriving_in_s: float) -> None:
    site = stage.site
    await site.supplier.post("settings", {"latency_s": latency_s})
    orders = await stage.orders(n)
    with _few_descriptors():
        server = site.start_server(
            PROVIDER_MAX_CONCURRENCY=str(n), CONNECTED_YOU_TIMEOUT_SECONDS="60", ACTIVATION_WAIT_SECONDS="600"
        )
    await until(server.is_ready)
    watch = _Watch(stage, server)
    esim_url = f"{server.shop.url}/api/esims/{await site.esim_id(orders[0])}"
    async with Callers(site.secret) as callers, Callers(site.secret) as readers:
        watching = asyncio.create_task(watch.go_on())
        reading = await readers.read([f"{server.shop.url}/api/plans", esim_url], per_s=_READS_PER_S)
        crowd = await callers.activate(((server.shop.url, order_id) for order_id in orders), per_s=n / arriving_in_s)
        replies = await crowd.replies()
        reads = await reading.stop()
        watching.cancel()
    await site.supplier.post("settings", {"latency_s": 0})
    await _end(server)

    first_answer = min(reply.at + reply.seconds for reply in replies)
    took_s = max(reply.at + reply.seconds for reply in replies) - replies[0].at
    outcome.counts["waiting at once"] = sum(reply.at < first_answer for reply in replies)
    outcome.counts["reads"] = len(reads)
    outcome.require("waiting at once", n)
    outcome.figures |= {
        "plans_p99_ms": _p99_ms(reads, "/api/plans"),
        "esim_p99_ms": _p99_ms(reads, "/api/esims/"),
        "memory_mb": round(watch.memory_mb, 1),
        "transactions": watch.transactions,
        "transaction_s": round(watch.transaction_s, 2),
        "took_latencies": round(took_s / latency_s, 2),
    }
    for what, statuses, expected in (
        ("calls", Counter(reply.status for reply in replies), 201),
        ("reads", Counter(read.status for read in reads), 200),
    ):
        if set(statuses) != {expected}:
            outcome.failures.append(f"{what} were answered {dict(statuses)}, not {expected}")


async def _more_than_there_are_places_for(stage: Stage, outcome: Outcome, places: int) -> None:
    """Who finds no place in time is told so, and nothing has happened."""
    site, calls = stage.site, 10 * places
    server = await site.serve(
        PROVIDER_MAX_CONCURRENCY=str(places),
        CONNECTED_YOU_TIMEOUT_SECONDS="120",
        ACTIVATION_WAIT_SECONDS=str(_WAIT_S),
    )
    await site.supplier.post("schedule", {"weights": {"hold_before": 1}})
    orders = await stage.orders(calls)
    async with Callers(site.secret) as callers:
        first = await callers.activate((server.shop.url, order_id) for order_id in orders[:places])
        await site.held(places)
        crowd = await callers.activate(
            ((server.shop.url, order_id) for order_id in orders[places:]), per_s=_CALLS_PER_S
        )
        replies = await crowd.replies()
        await first.replies()
    busy = [
        order_id
        for order_id, reply in zip(orders[places:], replies, strict=True)
        if (reply.status, reply.problem) == (503, "provider-busy") and reply.retry_after is not None
    ]
    statuses = await stage.statuses()
    async with site.db.read() as connection:
        tried = set(await connection.scalars(_TRIED))
    outcome.counts["told that the provider is busy"] = len(busy)
    outcome.require("told that the provider is busy", calls - places)
    if any(statuses[order_id] != "pending" or f"order-{order_id}" in tried for order_id in busy):
        outcome.failures.append("an order that found no place isn't as it was")
    await site.supplier.post("schedule", {"weights": {}})
    await site.release()
    await stage.recover(orders, server)


async def _every_fault(outcome: Outcome) -> None:
    """However the supplier fails: an order of which a byte may have left is never sent again, and one that didn't at most once."""
    async with StandIn() as supplier:
        provider = ConnectedYou("a partner", "a key", supplier.url, Wire("a key", _FAULT_TIMEOUT_S))
        for number, fault in enumerate(TABLE, 1):
            supplier.script(fault, reference=reference_of(number))
        await asyncio.gather(*(_buy(provider, number) for number in range(1, len(TABLE) + 1)))
        await provider.close()
        sent = Counter(request.reference for request in supplier.requests)
    outcome.counts["faults, each met by one order"] = len(sent)
    outcome.require("faults, each met by one order", len(TABLE))
    outcome.failures += [f"{reference} was sent {times} times" for reference, times in sent.items() if times > 1]

    tries = 0

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as nobody:  # in the middle of the TLS handshake
        port = nobody.sockets[0].getsockname()[1]
        provider = ConnectedYou("a partner", "a key", f"https://127.0.0.1:{port}", Wire("a key", _FAULT_TIMEOUT_S))
        result = await _buy(provider, 1)
        await provider.close()
    outcome.counts["tries of an order that can't be sent"] = tries
    if not isinstance(result, SupplierUnreachable) or tries > 1 + _QUIET_RETRIES:
        outcome.failures.append(f"an order that can't be sent was tried {tries} times: {result!r}")


async def _buy(provider: ConnectedYou, order_id: int) -> object:
    request = ProvisionRequest(order_id, reference_of(order_id), "ES-5GB", "Spain", "ES", "ana@example.com", "Ana")
    try:
        return await provider.provision(provider.prepare(request), may_send=lambda: True)
    except EsimProvisioningError as error:
        return error


@contextmanager
def _few_descriptors() -> Iterator[None]:
    """A program that is started meanwhile begins with few; it may raise that by itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _p99_ms(reads: list[Read], path: str) -> float:
    took = [read.seconds for read in reads if path in read.url]
    return round(1000 * statistics.quantiles(took, n=100)[98], 1)


async def _end(server: Server) -> None:
    server.send(signal.SIGTERM)
    await server.ended()
