"""The circuit: a provider that fails call after call is given a rest, by all processes together.

Failures that are about the provider and not about one order, so many of them in a row, open it: nothing is sent any more. After
a rest one call goes out as a probe; what comes of it closes the circuit or lengthens the rest. It all stands in the provider's
row of `provider_states`, which a healthy provider's activations read (in the statement that looks for a hold) and never write.

The counting comes after an answer is on file, in a transaction of its own: a count that is lost opens the circuit a call later.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

import structlog
from sqlalchemy import Boolean, bindparam, case, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app import metrics
from app.audit import SYSTEM, Tag, record
from app.db import Database
from app.direct import Direct
from app.errors import DatabaseUnavailable, PausedBy, ProviderPaused
from app.models import ProviderState
from app.services.esim_providers import (
    Accepted,
    Delivered,
    EsimProvider,
    EsimProvisioningError,
    SupplierOutcomeUnknown,
    SupplierRefused,
    SupplierUnreachable,
)
from app.services.esims.errors import ProviderOnHold

FIRST_REST_S = 30
LONGEST_REST_S = 300

ASK_AGAIN_S = 60
"""Nobody knows when a person will end the pause: whoever is turned away asks again in a minute."""

_WITHIN_S = 5
"""A caller isn't kept waiting for longer by the counting: another process may have been stopped with the row locked."""

log = structlog.get_logger()


def failure_of(result: Delivered | Accepted | EsimProvisioningError) -> str | None:
    """
    The problem type of a failure that is about the provider and not about one order; None for anything else, which ends a run
    of failures: the provider is there and answers.
    """
    match result:
        case SupplierUnreachable() | SupplierOutcomeUnknown() | SupplierRefused(concerns_account=True):
            return result.code
    return None


def rest_s(failed_probes: int) -> int:
    """How long nothing is sent before the next probe."""
    return min(FIRST_REST_S << min(failed_probes, 10), LONGEST_REST_S)


@dataclass(frozen=True, slots=True)
class Standing:
    """How the circuit stood when an intent was declared."""

    failures_in_a_row: int = 0
    probe: datetime | None = None
    """This call is the probe, and the only one until then; None for any other call."""


@dataclass(frozen=True, slots=True)
class Pause:
    """The circuit is open. `reason`: the problem type of the failure that opened it."""

    since: datetime
    reason: str
    next_probe_at: datetime


_now = func.clock_timestamp()
_row = ProviderState.provider == bindparam("of_provider")
_is_closed = ProviderState.circuit_opened_at.is_(None)
_is_this_probe = ProviderState.probe_at == bindparam("probe")
_rest = func.make_interval(0, 0, 0, 0, 0, 0, bindparam("rest_s"))

_STANDING = Direct(
    select(
        ProviderState.paused_at.is_not(None).label("is_paused"),
        func.extract("epoch", ProviderState.rate_limited_until - _now).label("held_for_s"),
        func.extract("epoch", ProviderState.probe_at - _now).label("probe_in_s"),
        ProviderState.failures_in_a_row,
    ).where(_row)
)
_CLAIM_PROBE = (
    update(ProviderState)
    .where(
        ProviderState.provider
        == select(ProviderState.provider)
        .where(_row, ProviderState.probe_at <= _now)
        .with_for_update(skip_locked=True)  # whoever has it locked is about to send the probe
        .scalar_subquery()
    )
    .values(probe_at=_now + _rest, updated_at=func.now())
    .returning(ProviderState.probe_at)
)
_fresh = upsert(ProviderState).values(provider=bindparam("of_provider"), failures_in_a_row=bindparam("failures"))
_COUNT = _fresh.on_conflict_do_update(
    index_elements=["provider"],
    set_={
        "failures_in_a_row": case((bindparam("is_run_ended", type_=Boolean), 0), else_=ProviderState.failures_in_a_row)
        + _fresh.excluded.failures_in_a_row,
        "updated_at": func.now(),
    },
    where=_is_closed,
).returning(ProviderState.failures_in_a_row)
_END_RUN = (
    update(ProviderState)
    .where(_row, _is_closed, ProviderState.failures_in_a_row > 0)
    .values(failures_in_a_row=0, updated_at=func.now())
)
_OPEN = (
    update(ProviderState)
    .where(_row)
    .values(
        circuit_opened_at=_now,
        circuit_reason=bindparam("reason"),
        probe_at=_now + _rest,
        failed_probes=0,
        updated_at=func.now(),
    )
)
_LOCK_PROBE = (
    select(
        ProviderState.failed_probes,
        func.extract("epoch", _now - ProviderState.circuit_opened_at).label("open_for_s"),
    )
    .where(_row, _is_this_probe)
    .with_for_update()
)
_REST_LONGER = (
    update(ProviderState)
    .where(_row)
    .values(failed_probes=bindparam("failed"), probe_at=_now + _rest, updated_at=func.now())
)
_CLOSE = (
    update(ProviderState)
    .where(_row)
    .values(
        failures_in_a_row=0,
        circuit_opened_at=None,
        circuit_reason=None,
        probe_at=None,
        failed_probes=0,
        updated_at=func.now(),
    )
)
_PAUSE = select(ProviderState.circuit_opened_at, ProviderState.circuit_reason, ProviderState.probe_at).where(
    _row, ProviderState.circuit_opened_at.is_not(None)
)


async def pass_gate(connection: AsyncConnection, provider: str, *, heeds_circuit: bool, deadline_s: float) -> Standing:
    """
    Whether a call may go out now. Within the transaction of its intent, as its last lock.

    A person's pause holds in a dry run, too: who pauses a provider wants no orders at it, and no TEST eSIM for a paid one.

    Args:
        deadline_s: if the call becomes the probe, no other goes for so long: the process that makes it may die.

    Raises:
        ProviderOnHold: the provider asked to wait.
        ProviderPaused: a person has paused it; or the circuit is open, and this is no time for a probe.
    """
    row = await _STANDING.one_or_none(connection, {"of_provider": provider})
    if row is None:
        return Standing()
    if row.is_paused:
        raise ProviderPaused(PausedBy.PERSON, retry_after_s=ASK_AGAIN_S)
    if row.held_for_s is not None and row.held_for_s > 0:
        raise ProviderOnHold(retry_after_s=int(row.held_for_s) + 1)
    if row.probe_in_s is None or not heeds_circuit:
        return Standing(row.failures_in_a_row)
    if row.probe_in_s > 0:
        raise ProviderPaused(PausedBy.CIRCUIT, retry_after_s=ceil(row.probe_in_s))
    probe = await connection.scalar(_CLAIM_PROBE, {"of_provider": provider, "rest_s": deadline_s})
    if probe is None:
        raise ProviderPaused(PausedBy.CIRCUIT, retry_after_s=ceil(deadline_s))
    return Standing(row.failures_in_a_row, probe)


class Circuit:
    """A process's part in it."""

    def __init__(self, db: Database, provider: EsimProvider, failures: int) -> None:
        """
        Args:
            failures: so many in a row open it; 0: never.
        """
        self._db = db
        self._provider = provider.name
        self._failures = failures
        self.is_heeded = failures > 0 and provider.is_live
        """Where nothing is sent (LOCAL, dry run) there is nothing to pause."""

        # What this process has heard and not written yet, and whether it has cause to believe that the count isn't 0.
        self._uncounted = 0
        self._is_run_ended = False
        self._has_counted = False
        self._writing = asyncio.Lock()

    async def heard(self, standing: Standing, result: Delivered | Accepted | EsimProvisioningError) -> None:
        """
        Takes in what came of a call. While the circuit is open only the probe's result matters: other calls left before.

        Args:
            standing: as the call's intent found it.
            result: as it was stored.
        """
        reason = failure_of(result)
        if not self.is_heeded:
            return
        try:
            async with asyncio.timeout(_WITHIN_S):
                if standing.probe is not None:
                    await self._end_probe(standing.probe, reason)
                elif reason is not None:
                    self._uncounted += 1
                    await self._write(reason)
                else:
                    self._uncounted = 0
                    if self._has_counted or standing.failures_in_a_row > 0:
                        self._is_run_ended = True
                        await self._write(None)
        except (DatabaseUnavailable, TimeoutError) as error:
            log.warning("providers.circuit_not_written", provider=self._provider, reason=str(error))

    async def pause(self, connection: AsyncConnection) -> Pause | None:
        """None while the circuit is closed."""
        if not self.is_heeded:
            return None
        row: Any = (await connection.execute(_PAUSE, {"of_provider": self._provider})).one_or_none()
        return None if row is None else Pause(*row)

    async def _write(self, reason: str | None) -> None:
        """One writer at a time in a process, for all that have gathered meanwhile: a storm of failures takes one connection."""
        async with self._writing:
            failures, is_run_ended = self._uncounted, self._is_run_ended
            self._uncounted, self._is_run_ended = 0, False
            if failures == 0 and not is_run_ended:
                return
            self._has_counted = failures > 0
            key = {"of_provider": self._provider}
            in_a_row: int | None = None
            async with self._db.begin() as connection:
                if failures == 0:
                    await connection.execute(_END_RUN, key)
                else:
                    heard = {"failures": failures, "is_run_ended": is_run_ended}
                    in_a_row = await connection.scalar(_COUNT, key | heard)
                is_opened = in_a_row is not None and in_a_row >= self._failures
                if is_opened:
                    await connection.execute(_OPEN, key | {"reason": reason, "rest_s": rest_s(0)})
                    await self._record(connection, Tag.CIRCUIT_OPENED, reason=reason, failures_in_a_row=in_a_row)
        if is_opened:
            metrics.CIRCUIT_OPENINGS.labels(self._provider).inc()
            log.error(
                "providers.circuit_opened",
                provider=self._provider,
                reason=reason,
                failures_in_a_row=in_a_row,
                effect=f"nothing is sent; a probe goes in {rest_s(0)} s at the earliest",
            )

    async def _end_probe(self, probe: datetime, reason: str | None) -> None:
        key = {"of_provider": self._provider}
        async with self._db.begin() as connection:
            row = (await connection.execute(_LOCK_PROBE, key | {"probe": probe})).one_or_none()
            if row is None:
                return  # its time was up, and another probe has gone since
            failed = row.failed_probes + 1
            if reason is None:
                await connection.execute(_CLOSE, key)
                await self._record(connection, Tag.CIRCUIT_CLOSED, failed_probes=row.failed_probes)
            else:
                await connection.execute(_REST_LONGER, key | {"failed": failed, "rest_s": rest_s(failed)})
        if reason is None:
            log.info("providers.circuit_closed", provider=self._provider, was_open_s=round(row.open_for_s))
        else:
            log.warning(
                "providers.circuit_probe_failed", provider=self._provider, reason=reason, next_probe_in_s=rest_s(failed)
            )

    async def _record(self, connection: AsyncConnection, tag: Tag, **details: object) -> None:
        await record(connection, SYSTEM, tag, "provider_states", None, provider=self._provider, **details)
