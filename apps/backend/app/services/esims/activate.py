"""Activation: one paid order becomes one eSIM, in work that the process owns and no client can cut short.

    look          how does the order stand? a settled one is answered at once
    slot          a place in the queue to the provider
    transaction   the intent: the attempt and its exact request on file       (`intent.py`)
    the call      no transaction, no connection held
    transaction   the answer, kept until the database takes it     (`keep.py`, `answer.py`)

Within a process all calls for one order share one flight; a flight that finds the order under way elsewhere waits for that one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app import failpoints, metrics
from app.audit import SYSTEM
from app.errors import DatabaseUnavailable, ProviderPaused
from app.failpoints import Point
from app.held import DatabaseForgets, InstallationHeld, hold
from app.house import House
from app.journal import Entry, JournalUnavailable
from app.services.esim_providers import (
    Delivered,
    EsimProvider,
    EsimProvisioningError,
    SupplierNotConfigured,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
    SupplierUnreachable,
)
from app.services.esims.answer import Result, verdict_on
from app.services.esims.circuit import Circuit
from app.services.esims.errors import OutcomeStillUnknown, ProviderBusy, ShuttingDown
from app.services.esims.esim import Esim, esim_by_order
from app.services.esims.intent import Intent, Looked, UnderWay, declare_intent, look
from app.services.esims.keep import keep_answer
from app.services.esims.replay import can_replay, declare_replay, due_for_replay
from app.services.esims.spend import CapAlarm, caps_of
from app.services.esims.watch import Closed, Watch

DRAIN_MARGIN_S = 10
"""On shutdown, calls in flight get the provider's timeout plus this long."""

_LAST_CALL_S = 1
_GOES_ON = (
    "Tribi cannot reach its database at the moment. The activation of this order may be under way, and an eSIM may have been "
    "bought: it is kept. Send the request again a little later; nothing is bought twice."
)

S = TypeVar("S")  # how an order stands to which nothing is sent

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Activation:
    """`is_first`: this very flight has provisioned it. `is_done`: False while it is under way."""

    esim: Esim
    is_first: bool = False
    is_done: bool = True


@dataclass(slots=True, eq=False)
class _Flight:
    declared: asyncio.Future[None]
    """Done once the intent is committed (here or elsewhere)."""
    task: asyncio.Task[Activation] = field(init=False)

    def declare(self) -> None:
        if not self.declared.done():
            self.declared.set_result(None)


class Activations:
    """The activations of this process."""

    def __init__(
        self,
        house: House,
        provider: EsimProvider,
        *,
        timeout_s: float,
        wait_s: float,
        max_concurrency: int,
    ) -> None:
        """
        Args:
            timeout_s: the provider's total deadline.
            wait_s: how long a call waits for its result before it is told that the activation goes on without it.
            max_concurrency: calls to the provider at once, in this process.
        """
        self._house = house
        self._db = house.db
        self._provider = provider
        self._timeout_s = timeout_s
        self._wait_s = wait_s
        self._slots = asyncio.Semaphore(max_concurrency)
        self._flights: dict[int, _Flight] = {}
        self._watch = Watch(house.db)
        self.circuit = Circuit(house.db, provider, house.settings.provider_circuit_failures)
        self.caps = caps_of(house.settings, is_live=provider.is_live)
        self._cap_alarm = CapAlarm(provider.name, self.caps)
        self._errands: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    async def activate(
        self, order_id: int, *, actor: str, respond_async: bool = False, looked: Esim | Looked | None = None
    ) -> Activation:
        """
        Activates an order's eSIM, once. Calling again returns the same eSIM and buys nothing.

        Args:
            actor: who asks, in the form of `audit_log.actor`.
            respond_async: return as soon as the intent is committed (RFC 7240's `respond-async`).
            looked: what the caller has seen of the order already; what is under way here goes before it.

        Returns:
            The eSIM; not done where the wait ended before the provider answered: the work goes on.

        Raises:
            NotFound, OrderNotPaid, OutcomeStillUnknown, ProviderBusy, ProviderOnHold, ProviderPaused, InstallationHeld,
                ShuttingDown: nothing was sent.
            EsimProvisioningError: as the provider failed; the same for all who waited.
            DatabaseUnavailable: nothing was sent by this call.
        """
        flight = self._flights.get(order_id)
        if (is_starter := flight is None) and isinstance(looked, Esim):
            return Activation(looked)
        if flight is None:
            flight = self._depart(order_id, lambda flight: self._fly(order_id, actor, flight, looked))

        either: list[asyncio.Future[Any]] = [flight.task, flight.declared]
        await asyncio.wait(either[: 1 + respond_async], timeout=self._wait_s, return_when=asyncio.FIRST_COMPLETED)
        if not flight.declared.done():
            # Its wait for a slot ends now, too: "busy, nothing was sent" is better news than "under way".
            await asyncio.wait(either, timeout=_LAST_CALL_S, return_when=asyncio.FIRST_COMPLETED)
        if not flight.task.done():
            try:
                return Activation(await self._esim(order_id), is_done=False)
            except DatabaseUnavailable as error:
                raise DatabaseUnavailable(str(error), public_message=_GOES_ON) from error
        if flight.task.cancelled():
            raise SupplierOutcomeUnknown(
                "this server had to end before the activation did: the recovery sweep settles it"
            )
        landed = flight.task.result()
        return landed if is_starter else Activation(landed.esim, is_done=landed.is_done)

    async def replay(self, order_id: int, *, actor: str) -> Activation:
        """
        Sends an unknown order once more because a person asks for it.

        Raises:
            CannotReplay: why not.
            OutcomeStillUnknown: it brought no eSIM; `str()` says what came.
            NotFound, ProviderBusy, ProviderOnHold, ProviderPaused, ShuttingDown: nothing was sent.
        """
        return await self._depart(
            order_id, lambda flight: self._ask_again(order_id, actor, flight, is_by_hand=True)
        ).task

    async def replay_due(self) -> int:
        """
        Begins to send again the unknown orders that are due for it, if the provider is one to which that may be done.

        Returns:
            How many were begun.
        """
        if not can_replay(self._provider) or self._is_closing:
            return 0
        async with self._db.read() as connection:
            due = await due_for_replay(connection, self._provider)
        idle = [order_id for order_id in due if order_id not in self._flights]
        for order_id in idle:
            self._depart(order_id, partial(self._ask_again, order_id, SYSTEM))
        return len(idle)

    async def drain(self, within_s: float) -> bool:
        """
        Takes no new work and waits for what is in flight.

        Returns:
            False if it had to give up: what is still open is left to the recovery sweep.
        """
        self._is_closing = True
        stop_by = asyncio.get_running_loop().time() + within_s
        # Again and again, since a flight may leave an errand.
        while pending := {flight.task for flight in self._flights.values()} | self._errands:
            left_s = stop_by - asyncio.get_running_loop().time()
            _, unfinished = await asyncio.wait(pending, timeout=max(left_s, 0))
            if unfinished and left_s <= 0:
                break
            await asyncio.sleep(0)  # their callbacks take them off the lists
        for task in pending:
            task.cancel()
        await self._watch.close()
        return not pending

    def _depart(self, order_id: int, fly: Callable[[_Flight], Coroutine[Any, Any, Activation]]) -> _Flight:
        if self._is_closing:
            raise ShuttingDown(retry_after_s=1)
        flight = self._flights[order_id] = _Flight(asyncio.get_running_loop().create_future())
        flight.task = asyncio.create_task(fly(flight))

        def landed(task: asyncio.Task[Activation]) -> None:
            del self._flights[order_id]
            flight.declare()
            if not task.cancelled():
                task.exception()  # seen by whoever waits; nobody may, and asyncio would complain

        flight.task.add_done_callback(landed)
        return flight

    async def _fly(self, order_id: int, actor: str, flight: _Flight, looked: Esim | Looked | None) -> Activation:
        if not isinstance(looked, Looked):
            async with self._db.read() as connection:
                looked = await look(connection, order_id)
        attempted = looked.standing or await self._attempt(
            order_id,
            lambda connection: declare_intent(
                connection,
                self._house.vault,
                self._provider,
                order_id,
                actor=actor,
                timeout_s=self._timeout_s,
                last=self._last_sent,
                heeds_circuit=self.circuit.is_heeded,
                caps=self.caps,
            ),
            flight,
        )
        if isinstance(attempted, tuple):
            return await self._conclude(*attempted)
        if isinstance(attempted, UnderWay):
            flight.declare()
            return await self._join(order_id, await self._watch.until_closed(attempted.attempt_id))
        return Activation(await self._esim(order_id))

    async def _ask_again(self, order_id: int, actor: str, flight: _Flight, *, is_by_hand: bool = False) -> Activation:
        attempted = await self._attempt(
            order_id,
            lambda connection: declare_replay(
                connection,
                self._house.vault,
                self._provider,
                order_id,
                actor=actor,
                timeout_s=self._timeout_s,
                is_by_hand=is_by_hand,
                last=self._last_sent,
                heeds_circuit=self.circuit.is_heeded,
                caps=self.caps,
            ),
            flight,
        )
        if not isinstance(attempted, tuple):
            esim = await self._esim(order_id)
            if esim.status != "provisioned":
                raise OutcomeStillUnknown  # whoever activates meanwhile is waiting for this
            return Activation(esim)
        try:
            return await self._conclude(*attempted)
        except EsimProvisioningError as error:
            raise OutcomeStillUnknown(str(error)) from error

    async def _attempt(
        self, order_id: int, declare: Callable[[AsyncConnection], Awaitable[Intent | S]], flight: _Flight
    ) -> tuple[Intent, Result] | S:
        """From the slot to the provider's result; whoever was quicker is joined instead."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise ProviderBusy(retry_after_s=1) from error
        try:
            intent = await self._declare(order_id, declare)
            if not isinstance(intent, Intent):
                return intent
            flight.declare()
            return intent, await self._call(intent)
        finally:
            self._slots.release()

    @property
    def _last_sent(self) -> Entry | None:
        return self._house.journal.last if self._house.journal is not None else None

    async def _declare(self, order_id: int, declare: Callable[[AsyncConnection], Awaitable[Intent | S]]) -> Intent | S:
        intent: Intent | S | None = None
        try:
            async with self._db.begin() as connection:
                intent = await declare(connection)
                if isinstance(intent, Intent) and not intent.may_send():
                    raise ProviderBusy(retry_after_s=1)  # asleep since: better no intent than one that can't be sent
        except DatabaseUnavailable:
            if isinstance(intent, Intent):
                # Only the commit's acknowledgement may be lost: the attempt may be on file and must not stay open.
                not_sent = SupplierUnreachable("the database went away before the order could be sent")
                errand = asyncio.create_task(keep_answer(self._house, intent, self._provider.name, not_sent))
                self._errands.add(errand)
                errand.add_done_callback(self._errands.discard)
            raise
        except DatabaseForgets as error:
            await hold(self._db, forgotten=1)
            raise InstallationHeld from error
        except EsimProvisioningError as error:
            self._report(order_id, error)
            raise
        except ProviderPaused as paused:
            self._cap_alarm.tell(paused)
            raise
        if isinstance(intent, Intent):
            self._cap_alarm.is_told = False
        return intent

    async def _call(self, intent: Intent) -> Result:
        with (
            metrics.PROVIDER_CALLS_IN_FLIGHT.track_inprogress(),
            metrics.PROVIDER_SECONDS.labels(self._provider.name).time(),
        ):
            try:
                failpoints.reached(Point.INTENT_COMMITTED, intent.order.reference)
                await self._note(intent)
                return await self._provider.provision(intent.order, may_send=intent.may_send)
            except SupplierNotConfigured as error:
                return SupplierOutcomeUnknown(str(error), answer=error.answer)  # not a word for it after the intent
            except EsimProvisioningError as error:
                return error
            except Exception as error:
                # A bug of an adapter's. It may have sent: the money decides, not the traceback.
                log.exception("esims.provider_adapter_failed", order_id=intent.order_id, attempt_id=intent.attempt_id)
                return SupplierOutcomeUnknown(f"the provider's adapter failed: {type(error).__name__}")

    async def _note(self, intent: Intent) -> None:
        """The intent outside of the database, which may be set back to a time before it. Without it nothing is sent."""
        if self._house.journal is None:
            return
        try:
            await self._house.journal.write(intent.entry)
        except JournalUnavailable as error:
            metrics.JOURNAL_FAILURES.inc()
            raise SupplierUnreachable(f"nothing was sent: the intent journal cannot be written to: {error}") from error

    async def _conclude(self, intent: Intent, result: Result) -> Activation:
        esim, result = await keep_answer(self._house, intent, self._provider.name, result)
        metrics.ACTIVATIONS.labels(self._provider.name, verdict_on(result).outcome).inc()
        await self.circuit.heard(intent.circuit, result)
        if isinstance(result, EsimProvisioningError):
            self._report(intent.order_id, result)
            if esim.status == "unknown" and not isinstance(result, SupplierOutcomeUnknown):
                raise SupplierOutcomeUnknown(str(result))  # a sweep was quicker: "send it again" would be wrong advice
            if esim.status != "provisioned":
                raise result
        else:
            log.info(
                "esims.activated", order_id=intent.order_id, esim_id=esim.id, status=esim.status, is_live=esim.is_live
            )
        is_ours = isinstance(result, Delivered) and esim.activation_code == result.activation_code
        return Activation(esim, is_first=is_ours, is_done=esim.status == "provisioned")

    async def _join(self, order_id: int, closed: Closed) -> Activation:
        elsewhere = "an activation by another process failed"
        if closed.problem is not None and (esim := await self._esim(order_id)).status == "provisioned":
            return Activation(esim)  # by another attempt's answer
        if closed.problem == SupplierRefused.code:
            raise SupplierRefused(elsewhere)
        if closed.problem is not None:
            raise _FAILURES.get(closed.problem, SupplierOutcomeUnknown)(elsewhere, retry_after_s=closed.retry_after_s)
        return Activation(await self._esim(order_id), is_done=closed.outcome != "accepted")

    async def _esim(self, order_id: int) -> Esim:
        async with self._db.read() as connection:
            return await esim_by_order(connection, self._house.vault, order_id)

    def _report(self, order_id: int, error: EsimProvisioningError) -> None:
        concerns_account = isinstance(error, SupplierRefused) and error.concerns_account
        if concerns_account:
            metrics.ACCOUNT_REFUSALS.labels(self._provider.name).inc()
        log.error(
            "esims.activation_failed",
            order_id=order_id,
            problem=error.code,
            provider=self._provider.name,
            concerns_account=concerns_account,
            error=str(error),
        )


_FAILURES: dict[str, type[EsimProvisioningError]] = {
    failure.code: failure for failure in (SupplierUnreachable, SupplierRateLimited, SupplierOutcomeUnknown)
}
