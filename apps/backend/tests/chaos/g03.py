"""
G3: at every named point of an activation its process is killed, fails, or stops for longer than timeout and margin while others
sweep. Where each case ends was written down by hand, before it was run.
"""

import asyncio
import random
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from app.failpoints import Point
from app.services.esims.intent import DEADLINE_MARGIN_S, reference_of
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.stage import ForkedServer, ForkedWorker, Stage, a_stage
from tests.chaos.strikes import KILL, RAISE, STOP, Strike
from tests.processes.programs import until

_AFTER_LEAVING_S = 0.05
"""At CALL_SENT, see `Strike.after_s`; the supplier holds its answer meanwhile."""

_TIMEOUT_S = 3
"""Of the sleepers' calls."""
_PATIENCE = 60
"""Of the others', which end before; what a killed server leaves open is past its deadline when the harness says so."""

_EXPOSED = (
    Point.INTENT_COMMITTED,
    Point.CALL_CONNECTING,
    Point.CALL_SENDING,
    Point.CALL_SENT,
    Point.CALL_HEADED,
    Point.CALL_ANSWERED,
    Point.ANSWER_BEGUN,
)
"""Where a sleeper has an open attempt and no lock on it: the sweep calls it unknown."""

_OF_THE_SWEEP = (Point.SWEEP_LOCKED, Point.SWEEP_WRITTEN)
_LOST = "connection lost"
_UNKNOWN = "502 activation-outcome-unknown"
_UNREACHABLE = "502 provider-unreachable"
_OURS = "500 internal-error"
_BUSY = "503 provider-busy"


@dataclass(frozen=True)
class End:
    """
    Where a case ends once the sweep has been by, and before anybody activates the order again.

    Attributes:
        left: the profile's status and its attempts' outcomes.
        issued: lines of the ledger; None where it's up to the HTTP library whether the order still left.
        reply: what the client got.
    """

    left: tuple[str, ...]
    issued: int | None
    reply: str


_NOTHING = ("pending",), 0
_NOT_SENT = ("pending", "not_sent"), 0
_UNSENT = ("unknown", "unknown"), 0
"""Nothing was sent, which nobody can know: a false unknown."""
_SENT = ("unknown", "unknown"), 1
_BOUGHT = ("provisioned", "delivered"), 1

ENDS: dict[Point, tuple[End, End, End]] = {
    # in this order: where its process is killed, where it fails, where it is stopped
    Point.INTENT_BEGUN: (End(*_NOTHING, _LOST), End(*_NOTHING, _OURS), End(*_BOUGHT, "201")),
    Point.INTENT_LOCKED: (End(*_NOTHING, _LOST), End(*_NOTHING, _OURS), End(*_BOUGHT, "201")),
    Point.INTENT_WRITTEN: (End(*_NOTHING, _LOST), End(*_NOTHING, _OURS), End(*_NOTHING, _BUSY)),
    Point.INTENT_COMMITTED: (End(*_UNSENT, _LOST), End(*_UNSENT, _UNKNOWN), End(*_UNSENT, _UNKNOWN)),
    Point.CALL_CONNECTING: (
        End(*_UNSENT, _LOST),
        End(*_NOT_SENT, _UNREACHABLE),
        End(*_UNSENT, _UNKNOWN),
    ),
    Point.CALL_SENDING: (
        End(*_UNSENT, _LOST),
        End(*_NOT_SENT, _UNREACHABLE),
        End(*_UNSENT, _UNKNOWN),
    ),
    Point.CALL_SENT: (End(*_SENT, _LOST), End(_SENT[0], None, _UNKNOWN), End(*_BOUGHT, "201")),
    Point.CALL_HEADED: (End(*_SENT, _LOST), End(*_SENT, _UNKNOWN), End(*_BOUGHT, "201")),
    Point.CALL_ANSWERED: (End(*_SENT, _LOST), End(*_SENT, _UNKNOWN), End(*_BOUGHT, "201")),
    Point.ANSWER_BEGUN: (End(*_SENT, _LOST), End(*_BOUGHT, "201"), End(*_BOUGHT, "201")),
    Point.ANSWER_SETTLED: (End(*_SENT, _LOST), End(*_BOUGHT, "201"), End(*_BOUGHT, "201")),
    Point.ANSWER_WRITTEN: (End(*_SENT, _LOST), End(*_BOUGHT, "201"), End(*_BOUGHT, "201")),
    Point.ANSWER_COMMITTED: (End(*_BOUGHT, _LOST), End(*_BOUGHT, "201"), End(*_BOUGHT, "201")),
    # these were sent by a server that was killed then
    Point.SWEEP_LOCKED: (End(*_SENT, _LOST), End(*_SENT, _LOST), End(*_SENT, _LOST)),
    Point.SWEEP_WRITTEN: (End(*_SENT, _LOST), End(*_SENT, _LOST), End(*_SENT, _LOST)),
}


@dataclass(frozen=True)
class Case:
    point: Point
    do: str
    end: End

    @property
    def name(self) -> str:
        return f"{self.do} at {self.point}"

    @property
    def strike_after_s(self) -> float:
        return _AFTER_LEAVING_S if self.point is Point.CALL_SENT and self.do != RAISE else 0


CASES = [
    Case(point, do, end) for point, ends in ENDS.items() for do, end in zip((KILL, RAISE, STOP), ends, strict=True)
]


async def run(
    folder: Path, *, n: int = len(CASES), seed: int, tick: Tick = no_tick, postgres_url: str | None = None
) -> Outcome:
    """All cases, whatever `n`: each order meets one. The seed decides which."""
    cases = random.Random(f"{seed}/cases").sample(CASES, len(CASES))  # noqa: S311 - reproducible is what is wanted
    async with a_stage(folder, postgres_url=postgres_url) as stage:
        play = _Play(stage, dict(zip(await stage.orders(len(cases)), cases, strict=True)))
        await play.act()
        tick(len(cases))
        return await play.outcome()


class _Play:
    def __init__(self, stage: Stage, cases: dict[int, Case]) -> None:
        self.stage = stage
        self.cases = cases
        self.calls: dict[int, asyncio.Task[str]] = {}
        self._sleeping_workers: list[ForkedWorker] = []
        stage.plan.write(
            Strike(reference_of(order_id), case.point, case.do, case.name, after_s=case.strike_after_s)
            for order_id, case in cases.items()
        )

    def _orders(self, do: str, *, of_the_sweep: bool = False) -> list[int]:
        return [
            order_id
            for order_id, case in self.cases.items()
            if case.do == do and (case.point in _OF_THE_SWEEP) == of_the_sweep
        ]

    async def act(self) -> None:
        await self._strike_sweeps()
        doomed = {order_id: await self._armed(_PATIENCE) for order_id in self._orders(KILL)}
        failing = await self._armed(_PATIENCE)
        sleepers = {order_id: await self._armed(_TIMEOUT_S) for order_id in self._orders(STOP)}
        await asyncio.gather(*(until(server.is_ready) for server in [*doomed.values(), failing, *sleepers.values()]))
        await self._hold_at_call_sent()
        for order_id, server in doomed.items():
            self._call(order_id, server)
            assert await server.ended() == -signal.SIGKILL
            await self.stage.site.expire(order_id)
        for order_id in self._orders(RAISE):
            await self._call(order_id, failing)
        await self._sleep(sleepers)
        await asyncio.gather(*self.calls.values())

    async def _armed(self, timeout_s: int) -> ForkedServer:
        return await self.stage.start_server(armed=True, CONNECTED_YOU_TIMEOUT_SECONDS=str(timeout_s))

    async def _strike_sweeps(self) -> None:
        """Six attempts are left open by a server that was killed; a worker is struck as it sweeps them, one after the other."""
        kinds = {do: self._orders(do, of_the_sweep=True) for do in (KILL, RAISE, STOP)}
        order_ids = [order_id for ids in kinds.values() for order_id in ids]
        server = await self.stage.server(CONNECTED_YOU_TIMEOUT_SECONDS=str(_PATIENCE))
        for order_id in order_ids:
            await self.stage.site.script(order_id, "hang_after")
            self._call(order_id, server)
        await self.stage.site.hanging(len(order_ids))
        await server.kill()
        for do, ids in kinds.items():
            for order_id in ids:
                await self.stage.site.expire(order_id)  # its process is dead
                worker = await self.stage.worker(armed=True)
                await self._struck(order_id)
                if do == RAISE:
                    await until(partial(worker.events, "sweep.failed"))
                if do == STOP:
                    self._sleeping_workers.append(worker)
                else:
                    await worker.kill()

    async def _hold_at_call_sent(self) -> None:
        for order_id, case in self.cases.items():
            if case.strike_after_s:
                await self.stage.site.script(order_id, "hold_after")

    async def _sleep(self, sleepers: dict[int, ForkedServer]) -> None:
        """All sleep until their attempts are past their deadlines and swept, if a sweep can get at them."""
        for order_id, server in sleepers.items():
            # One after the other: on a slow machine the first activations of thirteen servers would outlast their timeout.
            self._call(order_id, server)
            await self._struck(order_id)
        asleep_at = time.monotonic()
        await self.stage.site.release()  # what was held has come to an end, or waits in a sleeper's socket
        await self.stage.worker()
        exposed = [order_id for order_id in sleepers if self.cases[order_id].point in _EXPOSED]
        await self.stage.site.becomes("unknown", *exposed)
        await until(lambda: time.monotonic() > asleep_at + _TIMEOUT_S + DEADLINE_MARGIN_S)
        for order_id, server in sleepers.items():
            server.send(signal.SIGCONT)
            await self.calls[order_id]
        for worker in self._sleeping_workers:
            worker.send(signal.SIGCONT)

    def _call(self, order_id: int, server: ForkedServer) -> asyncio.Task[str]:
        async def call() -> str:
            try:
                reply = await server.activate(order_id)
            except aiohttp.ClientConnectionError:
                return _LOST
            return " ".join(map(str, reply.problem)) if reply.status >= 400 else str(reply.status)

        self.calls[order_id] = asyncio.create_task(call())
        return self.calls[order_id]

    async def _struck(self, order_id: int) -> None:
        """Waits until its case has come about."""
        reference = reference_of(order_id)
        await until(lambda: any(struck.reference == reference for struck in self.stage.plan.struck()))

    async def outcome(self) -> Outcome:
        outcome = Outcome(done=len(self.cases))
        outcome.counts.update(struck.strike.name for struck in self.stage.plan.struck())
        for case in self.cases.values():
            outcome.require(case.name, 1)
        healer = await self.stage.server()

        async def is_swept() -> bool:
            return "provisioning" not in (await self.stage.statuses()).values()

        await until(is_swept)
        was = {order_id: await self._left(order_id) for order_id in self.cases}
        for order_id, case in self.cases.items():
            outcome.failures += await self._deviations(order_id, case, was[order_id])
        await self.stage.recover(self.cases, healer)
        for order_id, case in self.cases.items():
            bought = len(self.stage.site.issued(order_id))
            if was[order_id][0] == "pending" and bought != 1:
                outcome.failures.append(f"{case.name}: a second activation made it {bought} eSIMs")
        disturbed = {reference_of(order_id) for order_id, case in self.cases.items() if case.do != STOP}
        outcome.verdict = await self.stage.judge(disturbed=disturbed)
        return outcome

    async def _left(self, order_id: int) -> tuple[str, ...]:
        outcomes = await self.stage.site.outcomes(order_id)
        return (await self.stage.site.status(order_id), *map(str, outcomes))

    async def _deviations(self, order_id: int, case: Case, left: tuple[str, ...]) -> list[str]:
        issued = len(self.stage.site.issued(order_id))
        found = (
            (left, case.end.left),
            (issued, issued if case.end.issued is None else case.end.issued),
            (await self.calls[order_id], case.end.reply),
        )
        names = ("it leaves", "issued are", "the client got")
        return [
            f"{case.name}: {what} {is_so}, not {expected}"
            for what, (is_so, expected) in zip(names, found, strict=True)
            if is_so != expected
        ]
