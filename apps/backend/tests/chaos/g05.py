"""G5: a crowd calls for one order at once, on two processes. One purchase, and everybody hears of it."""

import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.chaos.callers import Callers, Reply
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.stage import ForkedServer, Stage, a_stage
from tests.processes.programs import until

_NO_ORDER = 2**62

_ONE_ADDRESS = "https://shop.example"
"""Both servers stand behind it, so their answers name it."""

_Settings = dict[str, Any]
_PATIENT: _Settings = {"CONNECTED_YOU_TIMEOUT_SECONDS": "120", "ACTIVATION_WAIT_SECONDS": "180"}
"""Servers on which nothing runs out, however slow the machine is."""

_IMPATIENT: _Settings = {"CONNECTED_YOU_TIMEOUT_SECONDS": "120", "ACTIVATION_WAIT_SECONDS": "1"}
_HASTY: _Settings = {"CONNECTED_YOU_TIMEOUT_SECONDS": "2", "ACTIVATION_WAIT_SECONDS": "180"}


class Case(StrEnum):
    """How the supplier takes an order while the crowd waits."""

    QUICK = "quick"
    HELD = "held until all wait"
    BEYOND = "beyond the wait"
    FAILED = "500 while all wait"
    REFUSED = "401 while all wait"
    HANGING = "never answered"


_CASES = (
    Case.QUICK,
    Case.FAILED,
    Case.HELD,
    Case.BEYOND,
    Case.REFUSED,
    Case.QUICK,
    Case.HELD,
    Case.HANGING,
    Case.QUICK,
)
"""A third of them fail."""


@dataclass
class _Crowd:
    """Everybody who is interested in one order."""

    stage: Stage
    callers: Callers
    servers: dict[Case, list[ForkedServer]]
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    requests_seen: int = 0

    async def on(self, order_id: int, case: Case, calls: int) -> None:
        site, servers = self.stage.site, self.servers[case]
        if case in {Case.HELD, Case.BEYOND, Case.FAILED, Case.REFUSED}:
            await site.script(order_id, "hold")
        if case is Case.HANGING:
            await site.script(order_id, "hang_after")
        crowd = await self.callers.activate(
            (server.shop.url, order_id) for server, _ in zip(cycle(servers), range(calls), strict=False)
        )
        if case in {Case.HELD, Case.FAILED, Case.REFUSED}:
            await site.held()
            await _all_wait(servers)
            then = {Case.FAILED: "status_500_after", Case.REFUSED: "status_401"}.get(case)
            await site.release(then)
        replies = await crowd.replies()
        if case is Case.BEYOND:
            await site.release()

        self.counts[case.value] += 1
        self.counts.update(str(reply.status) for reply in replies)
        self.failures += [f"order {order_id} ({case}): {what}" for what in _wrong(case, replies)]
        self.failures += [f"order {order_id} ({case}): {what}" async for what in self._afterwards(order_id, case)]

    async def _afterwards(self, order_id: int, case: Case) -> AsyncIterator[str]:
        """Who comes when all is over."""
        if case is Case.BEYOND:
            await self.stage.site.becomes("provisioned", order_id)
        received = await self.stage.site.supplier.get(f"requests?since={self.requests_seen}")
        self.requests_seen += len(received)
        sent = sum(request["reference"] == f"order-{order_id}" for request in received)
        self.counts["POSTs"] += sent
        if sent != 1:
            yield f"the supplier was sent {sent} requests"
        if case is Case.REFUSED:
            return  # nothing was issued, so the next call would buy
        for server in self.servers[case]:
            later = await server.activate(order_id)
            if case in {Case.FAILED, Case.HANGING}:
                if later.problem != (409, "activation-outcome-unknown"):
                    yield f"a later call heard {later.problem}"
            elif (later.status, later.headers.get("Idempotent-Replayed")) != (200, "true"):
                yield f"a later call heard {later.status}"


async def _all_wait(servers: list[ForkedServer]) -> None:
    """
    A server takes requests up in the order in which they came, and lets activations to its database in that order: when two more
    have been answered, each on a connection of its own, those before them are under way. (Reads may overtake.)
    """
    for server in servers * 2:
        assert (await server.activate(_NO_ORDER)).status == HTTPStatus.NOT_FOUND


def _wrong(case: Case, replies: list[Reply]) -> list[str]:
    """What is wrong with what a crowd heard, in sentences."""
    statuses = Counter(reply.status for reply in replies)
    wrong = []

    def expect(is_so: bool, otherwise: str) -> None:
        if not is_so:
            wrong.append(otherwise)

    if case in {Case.QUICK, Case.HELD}:
        expect(statuses == {201: 1, 200: len(replies) - 1}, f"it heard {dict(statuses)}, not one 201 and else 200")
        expect(all(reply.is_replay == (reply.status == 200) for reply in replies), "a 200 isn't marked as a replay")
        expect(len({reply.body for reply in replies}) == 1, "the bodies differ")
    elif case is Case.BEYOND:
        expect(statuses == {202: len(replies)}, f"it heard {dict(statuses)}, not 202")
        expect(all(reply.retry_after for reply in replies), "a 202 doesn't say when to look again")
        expect(len({reply.body for reply in replies}) == 1, "the bodies differ")
    else:
        waited = [reply for reply in replies if reply.status == 502]
        problem = "provider-refused" if case is Case.REFUSED else "activation-outcome-unknown"
        # The hanging one is given up on a clock: who came to a server only then finds that nobody knows.
        late = sum((reply.status, reply.problem) == (409, problem) for reply in replies) if case is Case.HANGING else 0
        expect(bool(waited) and len(waited) + late == len(replies), f"it heard {dict(statuses)}, not 502")
        expect({reply.problem for reply in waited} == {problem}, "it heard of other problems than there was")
        expect(
            len({(reply.body, reply.retry_after) for reply in waited}) == 1, "those who waited heard different things"
        )
    return wrong


async def run(
    folder: Path,
    *,
    n: int,
    seed: int,
    tick: Tick = no_tick,
    calls_per_order: int = 500,
    postgres_url: str | None = None,
) -> Outcome:
    """
    Args:
        n: calls.
    """
    order_count = max(1, round(n / calls_per_order))
    cases = [case for case, _ in zip(cycle(_CASES), range(order_count), strict=False)]
    random.Random(f"{seed}/cases").shuffle(cases)  # noqa: S311 - a schedule, not a secret
    outcome = Outcome()
    async with (
        a_stage(folder, postgres_url=postgres_url, PUBLIC_URL=_ONE_ADDRESS) as stage,
        Callers(stage.site.secret) as callers,
    ):
        pairs = [[await stage.start_server(**kind) for _ in range(2)] for kind in (_PATIENT, _IMPATIENT, _HASTY)]
        for server in [server for pair in pairs for server in pair]:
            await until(server.is_ready)
        patient, impatient, hasty = pairs
        servers = dict.fromkeys(Case, patient) | {Case.BEYOND: impatient, Case.HANGING: hasty}
        crowd = _Crowd(stage, callers, servers)
        begun = time.monotonic()
        for order_id, case in zip(await stage.orders(order_count), cases, strict=True):
            await crowd.on(order_id, case, calls_per_order)
            outcome.done += calls_per_order
            tick(calls_per_order)
        outcome.figures["calls_per_s"] = round(outcome.done / (time.monotonic() - begun), 1)
        outcome.counts, outcome.failures = crowd.counts, crowd.failures
        outcome.verdict = await stage.judge()
    for case, planned in Counter(cases).items():
        outcome.require(case.value, planned)
    return outcome
