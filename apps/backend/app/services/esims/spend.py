"""The spend caps: so many live eSIMs an hour and a day, by all processes together, exactly.

What counts is every live attempt that may have spent money (`MAY_HAVE_SPENT`), by the time at which it was put on file. An order
that is sent again under the same reference (a replay) counts once, by the last time it was sent: that is done only where the
provider doesn't bill a reference twice. A person's "not issued" gives nothing back: who guards money doesn't go by hearsay.

Attempts are counted one after another. The turn is an advisory lock, taken in the very statement that writes the intent, as the
transaction's last lock; it is held for the counting and the commit. The count reads the newest entries of an index, one more than
the cap at most, however many orders there are. Without a cap there is neither.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

import structlog
from psycopg.errors import LockNotAvailable
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Insert,
    Integer,
    ScalarSelect,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from app import metrics
from app.errors import PausedBy, ProviderPaused
from app.models import ProvisioningAttempt
from app.models.esims import MAY_HAVE_SPENT, OUTCOMES_THAT_MAY_COST
from app.services.esims.errors import ProviderBusy
from app.settings import Settings

_TURN_WITHIN_S = 5
"""A process may have been stopped in the middle of its turn: the others give up, one activation each, rather than wait for it."""

_TURN = 7238441013
"""The number of our advisory lock."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Caps:
    """At most so many live eSIMs; 0: any number."""

    per_hour: int
    per_day: int

    def __str__(self) -> str:
        return f"{self.per_hour or 'any number'} an hour, {self.per_day or 'any number'} a day"


@dataclass(frozen=True, slots=True)
class Spent:
    """Live eSIMs that may have been bought in the last hour and day, and from when on there is room again: None where there is."""

    last_hour: int
    last_day: int
    hour_is_full_until: datetime | None
    day_is_full_until: datetime | None

    @property
    def is_full_until(self) -> datetime | None:
        return max(filter(None, (self.hour_is_full_until, self.day_is_full_until)), default=None)


class CapAlarm:
    """Counts what a process didn't send, and tells of a cap that is used up: once, until there is room again."""

    def __init__(self, provider: str, caps: Caps | None) -> None:
        self._provider = provider
        self._caps = caps
        self.is_told = False
        """A shop's rush is no reason for a rush of lines."""

    def tell(self, paused: ProviderPaused) -> None:
        metrics.NOT_SENT_WHILE_PAUSED.labels(self._provider, paused.by).inc()
        if paused.by is PausedBy.CAP and not self.is_told:
            self.is_told = True
            log.error(
                "providers.cap_reached",
                provider=self._provider,
                cap=str(self._caps),
                retry_after_s=paused.retry_after_s,
                effect="nothing is sent, and orders stay pending",
            )


def caps_of(settings: Settings, *, is_live: bool) -> Caps | None:
    """None where nothing is to be counted: there is no cap, or activations spend no money."""
    caps = Caps(settings.live_esims_per_hour, settings.live_esims_per_day)
    return caps if is_live and (caps.per_hour or caps.per_day) else None


def warn_of_live_orders(settings: Settings) -> None:
    """Stands at the beginning of every log of a process that works for a shop whose activations spend money."""
    if settings.is_live:
        caps = caps_of(settings, is_live=True)
        log.warning(
            "server.live_orders_on",
            banner=f"LIVE ORDERS ARE ON: each activation spends money at {settings.esim_provider}",
            cap=str(caps) if caps else "NONE: set LIVE_ESIMS_PER_HOUR and LIVE_ESIMS_PER_DAY",
        )


_Later = aliased(ProvisioningAttempt)
_counts = and_(
    text(MAY_HAVE_SPENT),
    or_(
        ProvisioningAttempt.outcome.is_distinct_from("unknown"),
        # the order has been sent again since: it counts by that
        ~select(_Later.id)
        .where(
            _Later.profile_id == ProvisioningAttempt.profile_id,
            _Later.id > ProvisioningAttempt.id,
            _Later.is_replay,
            or_(_Later.outcome.is_(None), _Later.outcome.in_(OUTCOMES_THAT_MAY_COST)),
        )
        .exists(),
    ),
)


_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


def _room_at(cap: BindParameter[int], window: timedelta, newer: ColumnElement[int]) -> ColumnElement[datetime]:
    """When the attempt leaves the window that has so many newer ones in it; NULL where there is none such, or no cap."""
    leaves_at = (
        select(ProvisioningAttempt.opened_at + window)
        .where(_counts, ProvisioningAttempt.opened_at > func.now() - window)
        .order_by(ProvisioningAttempt.opened_at.desc())
        .offset(func.greatest(newer, 0))
        .limit(1)
        .scalar_subquery()
    )
    return case((cap > 0, leaves_at))


def _count(window: timedelta) -> ScalarSelect[int]:
    return (
        select(func.count())
        .select_from(ProvisioningAttempt)
        .where(_counts, ProvisioningAttempt.opened_at > func.now() - window)
        .scalar_subquery()
    )


_per_hour, _per_day = bindparam("per_hour", type_=Integer), bindparam("per_day", type_=Integer)
# GREATEST passes over NULLs (PostgreSQL).
_OVER_FOR_S = select(
    func.extract(
        "epoch",
        func.greatest(_room_at(_per_hour, _HOUR, _per_hour), _room_at(_per_day, _DAY, _per_day)) - func.now(),
    )
)
"""Once an attempt is on file: NULL, or how long the one too many keeps others out."""
_SPENT = select(
    _count(_HOUR),
    _count(_DAY),
    _room_at(_per_hour, _HOUR, _per_hour - 1),
    _room_at(_per_day, _DAY, _per_day - 1),
)


def in_turn(statement: Insert) -> Insert:
    """A statement for `spend`: it ends with the turn to be counted, which the transaction then keeps."""
    # A timeout for the transaction (PgBouncer gives the session to others), set before the lock is waited for.
    patience = func.set_config("lock_timeout", bindparam("turn_within"), True)
    return statement.returning(patience, func.pg_advisory_xact_lock(_TURN))


async def spend(connection: AsyncConnection, caps: Caps, statement: Insert, values: dict[str, Any]) -> None:
    """
    Puts a live attempt on file if there is room for it.

    Args:
        statement: what puts it there, from `in_turn`.

    Raises:
        ProviderPaused: a cap is used up. The caller's transaction has to end without a commit.
        ProviderBusy: the turn to be counted didn't come.
    """
    try:
        await connection.execute(statement, values | {"turn_within": f"{_TURN_WITHIN_S}s"})
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise ProviderBusy(retry_after_s=1) from error
        raise
    over_for_s = await connection.scalar(_OVER_FOR_S, asdict(caps))
    if over_for_s is not None:
        raise ProviderPaused(PausedBy.CAP, retry_after_s=max(ceil(over_for_s), 1))


async def spent(connection: AsyncConnection, caps: Caps | None) -> Spent:
    """How far the caps are used up; without caps nothing is ever full."""
    row = (await connection.execute(_SPENT, asdict(caps or Caps(0, 0)))).one()
    return Spent(*row)
