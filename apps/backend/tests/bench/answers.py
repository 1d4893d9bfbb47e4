"""P2: answers that buy nothing, by one process, beside a bare hello under the same server."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench.activations import CLIENTS, Between, checked
from tests.bench.cost import Cost, cost_of
from tests.bench.load import Load, load
from tests.bench.pace import Pace
from tests.bench.results import Measured, Target, figure
from tests.bench.shop import Stage
from tests.processes.programs import a_free_port, until

_ESIMS = 500
_BUSY = 0.95
_KINDS = ("repeat activation", "read")


async def answers(stage: Stage, pace: Pace, between: Between) -> Measured:
    orders = await stage.stock(_ESIMS)
    esims = [stage.ask("SELECT id FROM esim_profiles WHERE order_id = %s", order) for order in (orders[0], orders[-1])]
    asked: dict[str, tuple[object, ...]] = {
        "repeat activation": ("repeat", orders[0], orders[-1]),
        "read": ("/api/esims/{id}", *esims),
    }
    yard: list[tuple[Load, Cost]] = []
    ours: dict[str, list[tuple[Load, Cost]]] = {kind: [] for kind in _KINDS}
    async with stage.server(1) as server, _hello(stage) as (hello, hello_pid):
        families = {"server": server.pid, "postgres": stage.postgres_pid}
        bought = await load(
            server.shop.url, "once", orders[0], orders[-1], clients=CLIENTS, seconds=60, key=stage.site.secret
        )
        assert checked(bought).requests == _ESIMS
        await stage.empty_queue()
        for kind in _KINDS:
            await load(server.shop.url, *asked[kind], clients=CLIENTS, seconds=pace.warm_s, key=stage.site.secret)
        await load(hello, "/", clients=CLIENTS, seconds=pace.warm_s)
        for _ in range(pace.repetitions):
            for kind in _KINDS:
                between()
                async with cost_of({"hello": hello_pid}) as cost:
                    said = await load(hello, "/", clients=CLIENTS, seconds=pace.seconds)
                yard.append((checked(said), cost))
                async with cost_of(families) as cost:
                    done = await load(
                        server.shop.url, *asked[kind], clients=CLIENTS, seconds=pace.seconds, key=stage.site.secret
                    )
                ours[kind].append((checked(done), cost))
        between()
    return _told(yard, ours)


def _told(yard: list[tuple[Load, Cost]], ours: dict[str, list[tuple[Load, Cost]]]) -> Measured:
    busy = [cost.cpu_s["hello"] / cost.seconds for _, cost in yard]
    note = (
        ""
        if min(busy) >= _BUSY
        else f"hello's process was busy for {min(busy):.0%} of the time: something else held it up"
    )
    made = Measured()
    for nth, kind in enumerate(_KINDS):
        hellos = [done.per_second for done, _ in yard[nth :: len(_KINDS)]]
        rates = [done.per_second for done, _ in ours[kind]]
        ratio = figure(f"{kind} ÷ hello", "ratio", [a / b for a, b in zip(rates, hellos, strict=True)])
        tail = figure(f"{kind}: p99 ÷ p50", "ratio", [done.p99_ms / done.p50_ms for done, _ in ours[kind]])
        made.targets += [
            Target("P2", ratio, 0.08, is_least=True, note=note),
            Target("P2", tail, 3, is_least=False),
        ]
        made.figures += [
            figure(kind, "1/s", rates),
            figure(f"{kind}: p50", "ms", [done.p50_ms for done, _ in ours[kind]]),
            figure(f"{kind}: p99", "ms", [done.p99_ms for done, _ in ours[kind]]),
            *(
                figure(f"{kind}: CPU of {family}", "ms", [cost.per(done.requests)[family] for done, cost in ours[kind]])
                for family in ("server", "postgres")
            ),
        ]
    made.figures += [
        figure("hello", "1/s", [done.per_second for done, _ in yard]),
        figure("hello: busy", "", busy),
    ]
    return made


@asynccontextmanager
async def _hello(stage: Stage) -> AsyncIterator[tuple[str, int]]:
    """Its URL, and its process."""
    port = a_free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.hello",
        str(port),
        env=dict(os.environ) | {"TRIBI_ENV_FILE": os.devnull, "LOG_LEVEL": "WARNING"},
    )
    url = f"http://127.0.0.1:{port}"

    async def answers() -> bool:
        assert process.returncode is None, "hello didn't start"
        try:
            async with stage.site.http.get(url) as reply:
                return reply.status == 200
        except OSError:
            return False

    try:
        await until(answers)
        yield url, process.pid
    finally:
        process.terminate()
        await process.wait()
