"""P1, P6 and P8: activations a second beside pgbench, with one process and with two, and what each costs."""

import os
from collections.abc import Callable

from tests.bench.cost import Cost, cost_of
from tests.bench.load import Load, load
from tests.bench.overhearing import overhear
from tests.bench.pace import Pace
from tests.bench.pgbench import Script, run_pgbench
from tests.bench.results import Figure, Measured, Target, figure
from tests.bench.shop import Stage
from tests.processes.installations import Server

CLIENTS = 64
_TRIED = (8, 16, 32, CLIENTS)
_OURS_A_SECOND, _PGBENCH_A_SECOND = 1_500, 4_000
"""More than are seen on machines like those of 2026; a stock that is used up is noticed."""

Between = Callable[[], None]
"""Called between measurements: looks how quiet the machine is."""


async def activations(stage: Stage, pace: Pace, between: Between) -> Measured:
    """P1 and P8, with two processes: once as `tribi serve` is, once with the queue held back."""
    heard = await overhear(stage)
    clients = await _best_clients(stage, pace, heard.script)
    yard: list[float] = []
    prepared: list[float] = []
    with_jobs: list[tuple[Load, Cost]] = []
    held: list[tuple[Load, Cost]] = []
    waiting: list[int] = []
    for _ in range(pace.repetitions):
        between()
        yard.append(await _yardstick(stage, heard.script, clients, pace.seconds))
        prepared.append(await _yardstick(stage, heard.script, clients, pace.try_s, protocol="prepared"))
        async with stage.server(2) as server:
            between()
            orders = await stage.stock(round(_OURS_A_SECOND * (2 * pace.seconds + pace.warm_s)))
            await warm_up(stage, server, orders, pace.warm_s)
            with_jobs.append(await activate(stage, server, orders, pace.seconds))
            waiting.append(stage.waiting_jobs())
            await stage.empty_queue()
            with stage.queue_held():
                held.append(await activate(stage, server, orders, pace.seconds))
            await stage.empty_queue()
    between()
    beside = f"pgbench at its best, with {clients} clients; what jobs there are is worked off meanwhile"
    return Measured(
        [
            Target("P1", _ratio("activations ÷ pgbench", with_jobs, yard), 0.30, is_least=True, note=beside),
            Target("P8", _cpu("server CPU an activation", "server", with_jobs), 4, is_least=False),
        ],
        [
            _ratio("activations ÷ pgbench, queue held back", held, yard),
            _ratio("activations ÷ pgbench that prepares its statements, too", with_jobs, prepared),
            figure(f"pgbench, {clients} clients", "1/s", yard),
            figure(f"pgbench that prepares its statements, {clients} clients", "1/s", prepared),
            *_of_loads("activations", with_jobs),
            *_of_loads("activations, queue held back", held),
            figure("jobs left behind", "", waiting),
            *(figure(f"statements: {name}", "", [count]) for name, count in heard.counts.items()),
        ],
    )


async def processes(stage: Stage, pace: Pace, between: Between) -> Measured:
    """P6: two processes beside one, on the same load."""
    found: dict[tuple[int, str], list[Load]] = {}
    for _ in range(pace.repetitions):
        for workers in (1, 2):
            between()
            async with stage.server(workers) as server:
                orders = await stage.stock(round(_OURS_A_SECOND * (pace.seconds + pace.warm_s)))
                await warm_up(stage, server, orders, pace.warm_s)
                done, _ = await activate(stage, server, orders, pace.seconds)
                found.setdefault((workers, "activations"), []).append(done)
                await stage.empty_queue()
                first, last = orders[0], stage.next_order(orders) - 1
                esims = [
                    stage.ask("SELECT id FROM esim_profiles WHERE order_id = %s", order) for order in (first, last)
                ]
                with stage.queue_held():
                    read = await load(
                        server.shop.url, "/api/esims/{id}", *esims,
                        clients=CLIENTS, seconds=pace.seconds, key=stage.site.secret,
                    )  # fmt: skip
                found.setdefault((workers, "reads"), []).append(checked(read))
    note = "load, provider and PostgreSQL share the cores with them" if (os.cpu_count() or 1) < 8 else ""
    made = Measured()
    for what in ("activations", "reads"):
        one, two = ([done.per_second for done in found[number, what]] for number in (1, 2))
        ratio = figure(f"{what}, two processes ÷ one", "ratio", [b / a for a, b in zip(one, two, strict=True)])
        made.targets.append(Target("P6", ratio, 1.7, is_least=True, note=note))
        made.figures += [figure(f"{what}, one process", "1/s", one), figure(f"{what}, two processes", "1/s", two)]
    return made


async def warm_up(stage: Stage, server: Server, orders: range, seconds: float) -> None:
    """First activations that nobody counts: code is loaded, connections are opened."""
    await load(
        server.shop.url, "activate", orders[0], orders[-1], clients=CLIENTS, seconds=seconds, key=stage.site.secret
    )


async def activate(stage: Stage, server: Server, orders: range, seconds: float) -> tuple[Load, Cost]:
    """
    First activations, from where the last ones ended. What was counted is looked for in the database.

    Raises:
        RuntimeError: an answer that isn't as it should be, or too few orders.
    """
    first = stage.next_order(orders)
    families = {"server": server.pid, "postgres": stage.postgres_pid, "stand-in": stage.site.supplier.process.pid}
    async with cost_of(families) as cost:
        done = await load(
            server.shop.url, "activate", first, orders[-1], clients=CLIENTS, seconds=seconds, key=stage.site.secret
        )
    if done.next_id > orders[-1]:
        raise RuntimeError(f"{len(orders):,} orders were too few for this machine")
    if stage.count("provisioned", first, done.next_id) < checked(done).requests:
        raise RuntimeError(f"{done.requests:,} activations were answered, and not all are on file")
    return done, cost


def checked(done: Load) -> Load:
    """
    Raises:
        RuntimeError: something failed, so that its figures are those of failures.
    """
    if not done.is_clean:
        raise RuntimeError(f"the load met failures: {done}")
    return done


async def _best_clients(stage: Stage, pace: Pace, script: Script) -> int:
    """With how many the yardstick is quickest: more don't always help it, and it is to be no easy one."""
    rates = {clients: await _yardstick(stage, script, clients, pace.try_s) for clients in _TRIED}
    return max(rates, key=rates.__getitem__)


async def _yardstick(stage: Stage, script: Script, clients: int, seconds: float, protocol: str = "extended") -> float:
    orders = await stage.stock(round(_PGBENCH_A_SECOND * (seconds + 1)))
    done = await run_pgbench(
        stage.database_url, script, stage.folder,
        first=orders[0], clients=clients, seconds=seconds, protocol=protocol,
    )  # fmt: skip
    if stage.count("provisioned", orders[0], orders[-1]) != done.transactions:
        raise RuntimeError(f"pgbench says {done.transactions:,} activations, and the database has others")
    await stage.empty_queue()
    return done.per_second


def _ratio(name: str, ours: list[tuple[Load, Cost]], yard: list[float]) -> Figure:
    return figure(name, "ratio", [done.per_second / rate for (done, _), rate in zip(ours, yard, strict=True)])


def _cpu(name: str, family: str, ours: list[tuple[Load, Cost]]) -> Figure:
    return figure(name, "ms", [cost.per(done.requests)[family] for done, cost in ours])


def _of_loads(name: str, ours: list[tuple[Load, Cost]]) -> list[Figure]:
    return [
        figure(name, "1/s", [done.per_second for done, _ in ours]),
        figure(f"{name}: p50", "ms", [done.p50_ms for done, _ in ours]),
        figure(f"{name}: p99", "ms", [done.p99_ms for done, _ in ours]),
        *(_cpu(f"{name}: CPU of {family}", family, ours) for family in ("server", "postgres", "stand-in")),
    ]
