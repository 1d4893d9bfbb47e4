"""G22: everything is killed with hundreds of calls in flight. How soon is all well again?"""

import csv
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.errors import DatabaseUnavailable
from app.postgres.leftovers import commands, name_of
from app.services.esims.intent import reference_of
from tests.chaos.callers import Callers
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.stage import Stage, a_stage
from tests.postgres.clients import guardians
from tests.processes.installations import Server
from tests.processes.programs import Program, until
from tests.stand_in import read_ledger

_LONG_S = 300
"""However slow the machine is; what is too slow is said by the limits."""

_OPEN = text("SELECT count(*) FROM provisioning_attempts WHERE outcome IS NULL")
_ESIMS = text("SELECT order_id, id FROM esim_profiles")
_CLASSIFIED_AFTER_S = text("SELECT extract(epoch FROM max(closed_at) - max(deadline_at)) FROM provisioning_attempts")


@dataclass(frozen=True)
class Limits:
    """Seconds: until the first answer after the start, from timeout + margin until all is classified, for a person to settle it."""

    first_answer_s: float = 5
    classified_s: float = 30
    settled_s: float = 60


async def run(
    folder: Path,
    *,
    n: int,
    seed: int,
    tick: Tick = no_tick,
    timeout_s: float = 30,
    limits: Limits = Limits(),
    on_disk: bool = True,
) -> Outcome:
    """
    Args:
        n: activations in flight as everything dies.
        timeout_s: the provider's. All of them must be in flight within it.
        on_disk: where the database lies.
    """
    outcome = Outcome(done=n)
    async with a_stage(folder, on_disk=on_disk, CONNECTED_YOU_TIMEOUT_SECONDS=str(timeout_s)) as stage:
        site = stage.site
        await site.supplier.post("schedule", {"seed": seed, "weights": {"hang_before": 1, "hang_after": 1}})
        orders = await stage.orders(n)
        async with Callers(site.secret) as callers:
            servers, worker = _start(stage)
            for server in servers:
                await until(server.is_ready, _LONG_S)
            crowd = await callers.activate((servers[nth % 2].shop.url, order_id) for nth, order_id in enumerate(orders))
            await site.hanging(n)
            async with site.db.read() as connection:
                outcome.counts["in flight at the kill"] = (await connection.execute(_OPEN)).scalar_one()
            outcome.counts["processes killed"] = _kill_everything(stage, *servers, worker)
            outcome.counts["connections broken"] = Counter(reply.status for reply in await crowd.replies())[0]
            await site.supplier.post("schedule", {"weights": {}})

            begun = time.monotonic()
            servers, worker = _start(stage)
            await until(lambda: _one_answers(servers), _LONG_S)
            outcome.figures["first_answer_s"] = round(time.monotonic() - begun, 2)
            await until(lambda: _is_classified(stage, orders), _LONG_S)
            async with site.db.read() as connection:
                classified_after_s = (await connection.execute(_CLASSIFIED_AFTER_S)).scalar_one()
            outcome.figures["classified_s"] = round(float(classified_after_s), 2)

            issued = {line.reference: line for line in read_ledger(site.ledger)}
            outcome.figures["settled_s"] = await _settle(stage, orders, issued)
            again = [order_id for order_id in orders if reference_of(order_id) not in issued]
            bought = await callers.activate((servers[0].shop.url, order_id) for order_id in again)
            statuses = Counter(reply.status for reply in await bought.replies())
            outcome.counts["settled as issued"] = len(orders) - len(again)
            outcome.counts["settled as not issued"] = len(again)
            outcome.counts["bought after that"] = statuses[201]
        outcome.verdict = await stage.judge(disturbed={reference_of(order_id) for order_id in orders})
    tick(n)
    outcome.require("in flight at the kill", n)
    outcome.require("bought after that", len(again))
    for name, limit_s in vars(limits).items():
        if outcome.figures[name] > limit_s:
            outcome.failures.append(f"{name} is {outcome.figures[name]}, over {limit_s}")
    return outcome


def _start(stage: Stage) -> tuple[list[Server], Program]:
    """What an installation with the embedded database consists of, all at once."""
    embedded: dict[str, Any] = {"DATABASE_URL": None, "TRIBI_DATA_DIR": str(stage.data_dir)}
    servers = [stage.site.start_server(**embedded) for _ in range(2)]
    return servers, stage.site.start("worker", **embedded)


def _kill_everything(stage: Stage, *programs: Program) -> int:
    """kill -9 for servers, worker, the database's guardian, its postmaster and each of its backends."""
    assert stage.data_dir is not None
    name = name_of(stage.data_dir / "postgres").encode()
    backends = [pid for pid, command in commands().items() if name in command]
    doomed = [*(program.pid for program in programs), *guardians(stage.data_dir), *backends]
    killed = 0
    for pid in doomed:
        with suppress(ProcessLookupError):  # one that another took with it
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


async def _one_answers(servers: Iterable[Server]) -> bool:
    for server in servers:
        if await server.answers("/api/plans") == 200:
            return True
    return False


async def _is_classified(stage: Stage, orders: list[int]) -> bool:
    try:
        statuses = await stage.statuses()
    except DatabaseUnavailable:
        return False  # our own connections went with the server
    return all(statuses[order_id] == "unknown" for order_id in orders)


async def _settle(stage: Stage, orders: list[int], issued: dict[str, Any]) -> float:
    """A person settles all by one file, with what the provider's records say. Returns the seconds that took."""
    async with stage.site.db.read() as connection:
        esims = {row.order_id: row.id for row in await connection.execute(_ESIMS)}
    path = stage.folder / "settled.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["esim_id", "outcome", "activation_code", "iccid", "reason"])
        for order_id in orders:
            line = issued.get(reference_of(order_id))
            if line is None:
                rows.writerow([esims[order_id], "not-issued", "", "", "they have no record of it"])
            else:
                rows.writerow([esims[order_id], "issued", line.activation_code, line.iccid, "their records say so"])
    begun = time.monotonic()
    done = await stage.site.run(
        "esims", "resolve", "--csv", str(path), DATABASE_URL=None, TRIBI_DATA_DIR=str(stage.data_dir)
    )
    assert done.status == 0, done.stderr
    return round(time.monotonic() - begun, 2)
