"""G13, webhooks in: none is taken that isn't the provider's, none is stored twice, and their order doesn't matter."""

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.db import Database
from app.services.esim_providers.connected_you.events import ConnectedYouEvents
from tests.builders import provisioned
from tests.chaos.forgeries import Forgery, scripted, turned_over
from tests.chaos.line import Heard, Line
from tests.chaos.outcome import Outcome, Tick
from tests.chaos.stage import a_stage
from tests.processes.programs import until

HEADER = "x-webhook-secret"
SECRET = "Wq7-of-the-proof_kT4zVn0pXe"
OTHERS = {
    "the provider's key": "key-of-the-proof",
    "our partner id": "partner-of-the-proof",
    "the sandbox's secret": "sandbox-secret",
    "another provider's secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}
SCRIPTED = scripted(HEADER, SECRET, OTHERS)
PATH = b"/api/webhooks/connected_you"
MOST_MS = 100
"""How soon a provider has its answer."""

LANES = 8
ORDERS = tuple(itertools.permutations(range(6)))

_EVENTS = text("SELECT count(*) FROM provider_events")
_WAITING = text("SELECT count(*) FROM provider_events WHERE outcome IS NULL")
_JOBS = text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'providers.event_received'")
_TOLD = text("SELECT count(*) FROM audit_log WHERE actor = 'provider:CONNECTED_YOU'")
_ENDS = text(
    "SELECT profile_state, profile_state_at, plan_state, plan_state_at, data_used_mb, data_total_mb, usage_at"
    " FROM esim_profiles WHERE iccid_fingerprint IS NOT NULL"
)


def an_event(iccid: str, kind: str, at: str, **members: Any) -> dict[str, Any]:
    """As ConnectedYou publishes it."""
    return {"event_type": kind, "iccid": iccid, "event_timestamp": at} | members


def six_events(iccid: str) -> list[dict[str, Any]]:
    """A life that is told in six events, two of them of the same second."""
    return [
        an_event(iccid, "PROFILE_LIFECYCLE", "2026-11-20T10:00:00Z", eid=None, status="DOWNLOADED"),
        an_event(iccid, "PROFILE_LIFECYCLE", "2026-11-20T10:20:00Z", eid=None, status="ENABLED"),
        an_event(iccid, "PROFILE_LIFECYCLE", "2026-11-20T10:20:00", eid=None, status="DISABLED"),
        an_event(iccid, "PRODUCT_STATUS_CHANGE", "2026-11-20T10:30:00Z", product_status="ACTIVATED"),
        an_event(
            iccid,
            "USAGE_ALERT",
            "2026-11-20T10:40:00Z",
            data_consumed=5120,
            data_total=5120,
            percentage_consumed=100,
        ),
        an_event(iccid, "PRODUCT_STATUS_CHANGE", "2026-11-20T12:50:00+02:00", product_status="TERMINATED"),
    ]


END = (
    "disabled",
    datetime.fromisoformat("2026-11-20T10:20:00Z"),
    "depleted",
    datetime.fromisoformat("2026-11-20T10:50:00Z"),
    5120.0,
    5120.0,
    datetime.fromisoformat("2026-11-20T10:40:00Z"),
)


@dataclass
class Sender:
    """Whoever sends webhooks to a server, on kept connections."""

    url: str
    db: Database
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _lines: list[Line] = field(default_factory=list)

    async def say(self, forgery: Forgery, body: bytes) -> Heard:
        line = self._lines.pop() if self._lines else await Line.open(self.url)
        if not line.is_open:
            line = await Line.open(self.url)
        head = b"".join(name + b": " + value + b"\r\n" for name, value in forgery.headers)
        whole = forgery.body + body
        heard = await line.send_raw(
            b"POST %b%b HTTP/1.1\r\nHost: proof\r\nContent-Length: %d\r\n%b\r\n%b"
            % (PATH, forgery.query, len(whole), head, whole)
        )
        if heard.status == 400:
            line.close()  # the server has done so, or is about to
        self._lines.append(line)
        return heard

    async def tell(self, event: dict[str, Any]) -> float:
        """As the provider. Returns how long the answer took, in ms."""
        started = time.perf_counter()
        heard = await self.say(Forgery("none", [(HEADER.encode(), SECRET.encode())]), json.dumps(event).encode())
        if (heard.status, heard.body) != (200, b""):
            self.failures.append(f"the provider was told {heard.status}")
        return (time.perf_counter() - started) * 1000

    async def count(self, of: Any) -> int:
        async with self.db.read() as connection:
            return int(await connection.scalar(of) or 0)

    async def is_quiet(self) -> bool:
        return await self.count(_WAITING) == 0

    def close(self) -> None:
        for line in self._lines:
            line.close()


async def forged(sender: Sender, *, flips: int, seed: int, tick: Tick) -> None:
    """All scripted forgeries, and so many turned bits: each is refused, and nothing is stored."""
    draw = random.Random(f"{seed}/forged")  # noqa: S311 - reproducible is what is wanted
    body = json.dumps(six_events("8999900000000000003")[0]).encode()
    source = ConnectedYouEvents(HEADER, SECRET)
    forgeries = iter([*SCRIPTED, *(turned_over(draw, HEADER, SECRET) for _ in range(flips))])

    async def lane() -> None:
        for forgery in forgeries:
            heard = await sender.say(forgery, body)
            expected = {401} if forgery.is_http else {400, 401}
            if heard.status not in expected or (heard.status == 401 and heard.problem != "unauthenticated"):
                sender.failures.append(f"{forgery.name}: answered {heard.status} {heard.problem}")
            if source.refusal([(name.lower(), value) for name, value in forgery.headers]) is None:
                sender.failures.append(f"{forgery.name}: taken for the provider's")
            sender.counts["refused, 401" if heard.status == 401 else "no HTTP, 400"] += 1
            tick(1)

    await asyncio.gather(*(lane() for _ in range(LANES)))
    sender.counts["scripted forgeries"] = len(SCRIPTED)
    if stored := await sender.count(_EVENTS):
        sender.failures.append(f"{stored} forged events were stored")


async def replayed(sender: Sender, iccid: str, times: int) -> None:
    """One event so many times, many at once: one row, one job, one word of it."""
    before = [await sender.count(one) for one in (_EVENTS, _JOBS, _TOLD)]
    left = iter(range(times))

    async def lane() -> None:
        for _ in left:
            await sender.tell(six_events(iccid)[0])
            sender.counts["the same event again"] += 1

    await asyncio.gather(*(lane() for _ in range(LANES)))
    await until(sender.is_quiet)
    after = [await sender.count(one) for one in (_EVENTS, _JOBS, _TOLD)]
    if [now - then for now, then in zip(after, before, strict=True)] != [1, 1, 1]:
        sender.failures.append(f"sent {times} times: {before} events, jobs and audit rows became {after}")


async def in_every_order(sender: Sender, iccids: Sequence[str], orders: Sequence[Sequence[int]]) -> list[float]:
    """
    Each eSIM is told the same six events in an order of its own, and looked at after each.

    Returns:
        How long the answers took, in ms.
    """
    took_ms = []
    for turn in range(6):
        for iccid, order in zip(iccids, orders, strict=True):
            took_ms.append(await sender.tell(six_events(iccid)[order[turn]]))
        await until(sender.is_quiet)
    sender.counts["orders of six events"] += len(orders)
    async with sender.db.read() as connection:
        ends = Counter(tuple(row) for row in await connection.execute(_ENDS))
    if ends[END] != len(orders):
        sender.failures.append(f"{len(orders)} orders came to these ends: {dict(ends)}")
    return took_ms


async def run(folder: Path, *, n: int, seed: int, tick: Tick) -> Outcome:
    """`n` turned bits and all scripted forgeries; 10,000 deliveries of one event; all 720 orders of six events."""
    outcome = Outcome(done=n)
    async with a_stage(folder) as stage:
        server = await stage.server(CONNECTED_YOU_WEBHOOK_HEADER=HEADER, CONNECTED_YOU_WEBHOOK_SECRET=SECRET)
        sender = Sender(server.shop.url, stage.site.db)
        try:
            await forged(sender, flips=n, seed=seed, tick=tick)
            iccids = await provisioned(stage.site.db, stage.vault, await stage.orders(len(ORDERS)))
            took_ms = sorted(await in_every_order(sender, iccids, ORDERS))
            [once] = await provisioned(stage.site.db, stage.vault, [await stage.site.order()])
            await replayed(sender, once, 10_000)
        finally:
            sender.close()
    outcome.counts, outcome.failures = sender.counts, sender.failures
    outcome.require("scripted forgeries", 60)
    outcome.require("refused, 401", n // 2)
    outcome.require("the same event again", 10_000)
    outcome.require("orders of six events", 720)
    outcome.figures["answered, p99 ms"] = p99_ms = round(took_ms[len(took_ms) * 99 // 100], 1)
    if p99_ms > MOST_MS:
        outcome.failures.append(f"answered within {p99_ms} ms (p99), and {MOST_MS} are allowed")
    return outcome
