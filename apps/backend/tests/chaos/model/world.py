"""What all programs of a run share: one database, two processes, the loop. It is emptied between programs, which is quicker."""

import asyncio
import json
import math
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar
from unittest.mock import patch

import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, WrappedLogger

from app import failpoints
from app.failpoints import Point
from app.services.esim_providers.connected_you.client import CAPABILITIES, ConnectedYou
from app.services.esim_providers.contract import Dedupe
from app.services.esims import intent
from app.settings import Settings
from app.vault import Keyring, Vault
from tests.api.serving import Reply, a_wish
from tests.builders import a_key, a_plan
from tests.chaos.model.on_file import OnFile
from tests.chaos.model.prediction import REPLAY_WINDOW_S, TIMEOUT_S
from tests.chaos.model.processes import Process
from tests.chaos.model.still_loop import StillLoop, Traffic
from tests.chaos.model.supplier import Supplier
from tests.chaos.outcome import Tick, Verdict

WAIT_S = 200
"""How long a call waits for its result, on the loop's clock: longer than all looks of a program take together."""

TICK_S = 0.3
"""Long enough for whoever waits to look again (`watch.py`, `keep.py`)."""

_STUCK_AFTER_S = 60

_KEY = "dGVzdC1rZXktdGVzdC1rZXktdGVzdC1rZXktMDAwMDE="
_BUGS = {"http.failed", "esims.provider_adapter_failed", "esims.answer_not_storable", "esims.watch_failed"}
"""What is logged where the product has met something that it didn't foresee."""

T = TypeVar("T")


class World:
    def __init__(self, url: str, tick: Tick, *, most_often: int) -> None:
        """
        Args:
            most_often: how often a program takes the same step.
        """
        self._tick, self.most_often = tick, most_often
        self.loop = StillLoop()
        self.traffic = Traffic(self.loop)
        self.settings = Settings(
            esim_provider="CONNECTED_YOU",
            connected_you_partner_id="partner-of-tests",
            database_url=SecretStr(url),
            encryption_key=SecretStr(_KEY),
            provider_circuit_failures=0,  # it has tests of its own; here it would hide most of what may happen
        )
        self.counts: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.programs = 0
        self._told = 0
        self.verdict = Verdict()
        self.bugs: list[str] = []
        self.on_file = OnFile(url)
        self.processes = {name: self._process(name) for name in "AB"}
        self.run(self._set_up())

    def _process(self, name: str) -> Process:
        return Process(name, self.settings, Keyring.parse(_KEY), self.traffic, timeout_s=TIMEOUT_S, wait_s=WAIT_S)

    async def _set_up(self) -> None:
        for process in self.processes.values():
            await process.house.settle()
        db = self.processes["A"].db
        self.sku = await a_plan(db)
        _, secret = await a_key(db)
        self._bearer = {"Authorization": f"Bearer {secret}"}

    @property
    def vault(self) -> Vault:
        return self.processes["A"].house.vault

    def begin_program(self) -> None:
        """Nothing is left of the one before."""
        self.programs += 1
        self._tick(self.steps.total() - self._told)
        self._told = self.steps.total()
        self.on_file.empty()
        if self.programs % 50 == 0:
            self.on_file.vacuum()
        self.supplier = Supplier()

    def start(self, name: str) -> None:
        """A process begins, or another takes its place. It sends unknown orders again if the supplier has given its word."""
        capabilities = CAPABILITIES
        if self.supplier.dedupes:
            capabilities = replace(CAPABILITIES, dedupe=Dedupe.REPLAY, replay_window_s=REPLAY_WINDOW_S)
        provider = ConnectedYou(
            "partner-of-tests", "key-of-tests", "https://supplier.example", self.supplier, capabilities
        )
        self.processes[name].start(provider)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Raises:
            AssertionError: it waits for something that never comes; no timer of the loop would tell.
        """
        task = self.loop.create_task(work)
        watchman = threading.Timer(_STUCK_AFTER_S, self.loop.call_soon_threadsafe, (task.cancel,))
        watchman.start()
        try:
            return self.loop.run_until_complete(task)
        except asyncio.CancelledError:
            raise AssertionError("nothing moves any more") from None
        finally:
            watchman.cancel()

    async def settle(self) -> None:
        """All that can happen without time passing has happened; then whoever waits has looked again."""
        await self.traffic.has_settled()
        self.loop.pass_time(TICK_S)
        await self.traffic.has_settled()

    def place(self, name: str, key: str, *, reference: str = "pay_42") -> Coroutine[Any, Any, Reply]:
        wish = a_wish(self.sku) | {"payment": {"status": "paid", "reference": reference}}
        return self._post(name, "/api/orders", wish, {"Idempotency-Key": key})

    def activate(self, name: str, order_id: int, *, respond_async: bool) -> Coroutine[Any, Any, Reply]:
        prefer = {"Prefer": "respond-async"} if respond_async else {}
        return self._post(name, "/api/esims/activate", {"order_id": order_id}, prefer)

    def get(self, name: str, path: str) -> Coroutine[Any, Any, Reply]:
        return self.processes[name].call("GET", path, self._bearer)

    def _post(self, name: str, path: str, body: object, headers: dict[str, str]) -> Coroutine[Any, Any, Reply]:
        all_headers = self._bearer | {"Content-Type": "application/json"} | headers
        return self.processes[name].call("POST", path, all_headers, json.dumps(body).encode())

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Every process sleeps too long between an intent's commit and the first byte."""
        now = -math.inf

        def reached(point: Point, _: str) -> None:
            nonlocal now
            if point is Point.INTENT_COMMITTED:
                now = math.inf

        with patch.object(failpoints, "reached", reached), patch.object(intent, "boot_clock", lambda: now):
            yield

    @contextmanager
    def awake(self) -> Iterator[None]:
        """No process sleeps unless `asleep`, however long a step takes in truth: intents are made by the true clock."""
        with patch.object(intent, "boot_clock", lambda: -math.inf):
            yield

    @contextmanager
    def listening_to_the_log(self) -> Iterator[None]:
        def listen(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
            if event["event"] in _BUGS:
                self.bugs.append(f"{event['event']}: {event}")
            raise structlog.DropEvent

        config = structlog.get_config()
        structlog.configure(processors=[structlog.processors.format_exc_info, listen])
        try:
            yield
        finally:
            structlog.configure(**config)

    def close(self) -> None:
        self.on_file.close()
        self.run(self._close())
        self.loop.close()

    async def _close(self) -> None:
        for process in self.processes.values():
            await process.db.close()
        await asyncio.sleep(0)
