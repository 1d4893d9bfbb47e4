"""Settling many unknown outcomes by a person's file, each in a transaction of its own: one that can't be stops no other."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import Database
from app.errors import DatabaseUnavailable, NotFound
from app.models import ProvisioningAttempt
from app.services.esims.esim import Esim, esim_by_id, esim_by_order
from app.services.esims.resolve import CannotResolve, resolve_issued, resolve_not_issued
from app.services.esims.settlements import Settlement
from app.values.activation_code import ActivationCode
from app.vault import Vault


class Ending(StrEnum):
    SETTLED = "settled"
    ALREADY_SETTLED = "already-settled"
    """The eSIM stood exactly as the line says before it was touched."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a line. `esim_id`, `status`: None where no eSIM was found. `error`: why it failed."""

    settlement: Settlement
    ending: Ending
    esim_id: int | None
    status: str | None
    error: str | None = None


async def settle_many(
    db: Database, vault: Vault, settlements: Sequence[Settlement], *, actor: str
) -> AsyncIterator[Settled]:
    """One after the other; what has been told is committed."""
    for settlement in settlements:
        yield await _settle(db, vault, settlement, actor)


async def _settle(db: Database, vault: Vault, settlement: Settlement, actor: str) -> Settled:
    esim: Esim | None = None
    try:
        async with db.read() as connection:
            esim = await _esim(connection, vault, settlement)
            if esim.status != "unknown" and await _is_settled_so(connection, esim, settlement):
                return Settled(settlement, Ending.ALREADY_SETTLED, esim.id, esim.status)
        esim = await _resolve(db, vault, esim.id, settlement, actor)
    except (CannotResolve, NotFound, DatabaseUnavailable) as error:
        said = f"{error}; run the file again" if isinstance(error, DatabaseUnavailable) else str(error)
        if esim is None:
            return Settled(settlement, Ending.FAILED, None, None, said)
        return Settled(settlement, Ending.FAILED, esim.id, esim.status, said)
    return Settled(settlement, Ending.SETTLED, esim.id, esim.status)


async def _resolve(db: Database, vault: Vault, esim_id: int, settlement: Settlement, actor: str) -> Esim:
    code, reason = settlement.code, settlement.reason
    if code is None:
        return await resolve_not_issued(db, vault, esim_id, reason=reason, actor=actor)
    return await resolve_issued(db, vault, esim_id, code=code, iccid=settlement.iccid, reason=reason, actor=actor)


async def _esim(connection: AsyncConnection, vault: Vault, settlement: Settlement) -> Esim:
    if settlement.order_id is None:
        assert settlement.esim_id is not None  # noqa: S101 - a line names one or the other
        return await esim_by_id(connection, vault, settlement.esim_id)
    return await esim_by_order(connection, vault, settlement.order_id)


_LAST_ATTEMPT = (
    select(ProvisioningAttempt.outcome, ProvisioningAttempt.is_replay)
    .where(ProvisioningAttempt.profile_id == bindparam("esim_id"))
    .order_by(ProvisioningAttempt.id.desc())
    .limit(1)
)


async def _is_settled_so(connection: AsyncConnection, esim: Esim, settlement: Settlement) -> bool:
    if settlement.code is not None:
        return (
            esim.activation_code is not None
            and _is_same_code(esim.activation_code, settlement.code)
            and (settlement.iccid is None or esim.iccid == settlement.iccid.text)
        )
    if esim.status != "pending":
        return False
    # An attempt without an answer, and yet its eSIM is pending: only a person's "not issued" leaves that behind.
    last = (await connection.execute(_LAST_ATTEMPT, {"esim_id": esim.id})).one_or_none()
    return last is not None and (last.outcome == "unknown" or last.is_replay)


def _is_same_code(one: ActivationCode, other: ActivationCode) -> bool:
    return one.manual == other.manual or (one.identity is not None and one.identity == other.identity)
