"""
What a restore has forgotten, taken over from the intent journal.

An order that the database still has becomes `unknown` with the attempt that it had forgotten. One that it doesn't have any more is
remembered by its `Idempotency-Key`: the storefront, which was never told of the loss or will notice it, sends the order again, and
it stands there under its old number, `unknown`. So what was bought before the restore is bought once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import Row, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import SYSTEM, Tag, record
from app.db import Database
from app.held import forgotten_among
from app.journal import Entry
from app.models import EsimProfile, ForgottenAttempt, Installation, Order, ProvisioningAttempt
from app.services.esim_providers import SupplierOutcomeUnknown
from app.services.webhooks.events import EsimOutcomeUnknown
from app.services.webhooks.tell import tell

NUMBERS_SKIPPED = 1_000_000
"""More than any installation hands out between two backups."""

_BATCH = 1000
_WHAT_IS_KNOWN = (
    "only the intent journal knows of this attempt: it was made before the database was set back to an older state"
)


@dataclass(frozen=True, slots=True)
class Found:
    """
    A line of the journal that the database had forgotten.

    Attributes:
        status: of the order's eSIM now; None where the order is gone.
    """

    entry: Entry
    status: str | None


@dataclass(frozen=True, slots=True)
class Recovery:
    """`held_since`: None where nothing was held. `next_order_id`: None where numbers go on as they did."""

    held_since: datetime | None
    found: list[Found]
    next_order_id: int | None


_LOCK_INSTALLATION = select(Installation.held_since).with_for_update()
_RELEASE = update(Installation).values(held_since=None)
_REMEMBER = upsert(ForgottenAttempt).on_conflict_do_nothing()
_ORDER = (
    select(EsimProfile.id, EsimProfile.status)
    .join(Order, Order.id == EsimProfile.order_id)
    .where(Order.id == bindparam("order_id"), Order.created_at == bindparam("placed_at"))
    .with_for_update(of=[Order, EsimProfile])
)
_ATTEMPT = upsert(ProvisioningAttempt).values(
    profile_id=bindparam("profile_id"),
    provider=bindparam("provider"),
    is_live=True,  # the journal holds nothing else
    reference=bindparam("reference"),
    requested_by=SYSTEM,
    opened_at=bindparam("opened_at"),
    deadline_at=bindparam("opened_at"),
    outcome="unknown",
    problem=SupplierOutcomeUnknown.code,
    closed_at=func.now(),
    error=_WHAT_IS_KNOWN,
)
_FILE = _ATTEMPT.returning(ProvisioningAttempt.id)
_FILE_UNDER_ITS_NUMBER = (
    _ATTEMPT.values(id=bindparam("attempt_id"))
    .on_conflict_do_nothing(index_elements=["id"])
    .returning(ProvisioningAttempt.id)
)
_FILED = (
    update(ForgottenAttempt)
    .where(
        ForgottenAttempt.attempt_id == bindparam("of_attempt_id"),
        ForgottenAttempt.opened_at == bindparam("of_opened_at"),
    )
    .values(filed_as=bindparam("filed_as"))
)
_MAKE_UNKNOWN = (
    update(EsimProfile)
    .where(EsimProfile.id == bindparam("profile_id"), EsimProfile.status.in_(["pending", "refused"]))
    .values(status="unknown", updated_at=func.now())
    .returning(EsimProfile.order_id, EsimProfile.is_live)
)
_STATUS = select(EsimProfile.status).where(EsimProfile.id == bindparam("profile_id"))
_SKIP_NUMBERS = text(
    "SELECT setval(CAST(:sequence AS regclass), greatest(nextval(CAST(:sequence AS regclass)), :seen) + :skipped)"
)

FORGOTTEN_ORDER_ID = (
    select(func.max(ForgottenAttempt.order_id))
    .where(ForgottenAttempt.order_key == bindparam("order_key"), ForgottenAttempt.filed_as.is_(None))
    .scalar_subquery()
)
"""Under which number an order with that key (`hash_of`) was placed and sent before a restore; None for nearly all."""
_ATTEMPTS_OF_ORDER = select(ForgottenAttempt.__table__).where(
    ForgottenAttempt.order_id == bindparam("order_id"), ForgottenAttempt.filed_as.is_(None)
)


async def recover(db: Database, entries: Iterable[Entry], *, actor: str) -> Recovery:
    """
    Takes over what the database doesn't know, moves all numbers out of the way of those that were given before, and ends held
    mode. Doing it again, or for another machine's journal, adds what that knows.

    Raises:
        DatabaseUnavailable: nothing was done.
    """
    async with db.begin() as connection:
        held_since = await connection.scalar(_LOCK_INSTALLATION)
        forgotten: list[Entry] = []
        rest = iter(entries)
        while batch := list(islice(rest, _BATCH)):
            forgotten += await forgotten_among(connection, batch)
        next_order_id = await _skip_numbers(connection, forgotten) if forgotten else None
        found = [await _take_over(connection, entry) for entry in forgotten]
        await connection.execute(_RELEASE)
        if found or held_since is not None:
            await record(
                connection,
                actor,
                Tag.INSTALLATION_RECOVERED,
                "installation",
                1,
                found=len(found),
                orders_from=next_order_id,
            )
    return Recovery(held_since, found, next_order_id)


async def _take_over(connection: AsyncConnection, entry: Entry) -> Found:
    await connection.execute(
        _REMEMBER,
        {
            "attempt_id": entry.attempt_id,
            "opened_at": entry.opened_at,
            "reference": entry.reference,
            "order_id": entry.order_id,
            "placed_at": entry.placed_at,
            "provider": entry.provider,
            "order_key": entry.order_key,
        },
    )
    asked = {"order_id": entry.order_id, "placed_at": entry.placed_at}
    profile = (await connection.execute(_ORDER, asked)).one_or_none()
    if profile is None:
        return Found(entry, None)
    await _file(connection, profile.id, entry)
    return Found(entry, await connection.scalar(_STATUS, {"profile_id": profile.id}))


async def file_forgotten(connection: AsyncConnection, order_id: int, profile_id: int) -> None:
    """The order is there again: so are its attempts."""
    for attempt in (await connection.execute(_ATTEMPTS_OF_ORDER, {"order_id": order_id})).all():
        await _file(connection, profile_id, attempt)


async def _file(connection: AsyncConnection, profile_id: int, attempt: Entry | Row[tuple[object, ...]]) -> None:
    values = {
        "profile_id": profile_id,
        "provider": attempt.provider,
        "reference": attempt.reference,
        "opened_at": attempt.opened_at,
    }
    filed_as = await connection.scalar(_FILE_UNDER_ITS_NUMBER, values | {"attempt_id": attempt.attempt_id})
    if filed_as is None:  # the number was given anew before anybody noticed
        filed_as = await connection.scalar(_FILE, values)
    of = {"of_attempt_id": attempt.attempt_id, "of_opened_at": attempt.opened_at}
    await connection.execute(_FILED, of | {"filed_as": filed_as})
    became = (await connection.execute(_MAKE_UNKNOWN, {"profile_id": profile_id})).one_or_none()
    if became is not None:
        news = EsimOutcomeUnknown(order_id=became.order_id, esim_id=profile_id, is_live=became.is_live)
        await tell(connection, news)
    await record(connection, SYSTEM, Tag.ESIM_FORGOTTEN, "esim_profiles", profile_id, attempt_id=filed_as)


async def _skip_numbers(connection: AsyncConnection, forgotten: list[Entry]) -> int:
    """Orders, eSIMs and attempts: clients may have noted any of them, and the provider the orders'."""
    seen = {
        "orders_id_seq": max(entry.order_id for entry in forgotten),
        "provisioning_attempts_id_seq": max(entry.attempt_id for entry in forgotten),
        "esim_profiles_id_seq": 0,
    }
    last = {
        sequence: await connection.scalar(
            _SKIP_NUMBERS, {"sequence": sequence, "seen": highest, "skipped": NUMBERS_SKIPPED}
        )
        for sequence, highest in seen.items()
    }
    return int(last["orders_id_seq"]) + 1
