"""Settling by a person what no machine can know: was the eSIM issued?"""

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Tag, record
from app.db import Database, violated_constraint
from app.errors import NotFound, TribiError
from app.models import EsimProfile, ProvisioningAttempt
from app.queue import Job, enqueue
from app.redaction import redact
from app.services.esims.answer import HELD_BY_ANOTHER, code_values
from app.services.esims.esim import COLUMNS, Esim, esim_by_id, esim_of
from app.services.webhooks.events import EsimProvisioned, EsimResolved
from app.services.webhooks.tell import tell
from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid
from app.vault import Vault


class CannotResolve(TribiError):
    """`str()` says why, for the person who tries."""

    code = "cannot-resolve"
    title = "This eSIM can't be settled so"
    meaning = (
        "Only an eSIM whose outcome is unknown, and whose attempt's deadline has passed, can be settled by a person."
    )
    http_status = 409


async def resolve_issued(
    db: Database, vault: Vault, esim_id: int, *, code: ActivationCode, iccid: Iccid | None, reason: str, actor: str
) -> Esim:
    """
    A person found out that the provider issued the eSIM, and under which code.

    Raises:
        NotFound: there is no such eSIM.
        CannotResolve: it isn't unknown, its deadline hasn't passed, or another eSIM holds that code or ICCID.
    """
    try:
        async with db.begin() as connection:
            attempt_id = await _lock_unknown(connection, esim_id)
            row = (
                await connection.execute(
                    update(EsimProfile)
                    .where(EsimProfile.id == esim_id)
                    .values(
                        status="provisioned",
                        provisioned_at=func.now(),
                        plan_state="not_started",
                        warnings=[*code.warnings, *(iccid.warnings if iccid else ())],
                        updated_at=func.now(),
                        **code_values(vault, esim_id, code, iccid),
                    )
                    .returning(*COLUMNS)
                )
            ).one()
            await record(
                connection,
                actor,
                Tag.ESIM_RESOLVED_ISSUED,
                "esim_profiles",
                esim_id,
                reason=redact(reason),
                attempt_id=attempt_id,
            )
            await tell(
                connection,
                EsimResolved(
                    order_id=row.order_id, esim_id=esim_id, is_live=row.is_live, how="issued", status="provisioned"
                ),
            )
            await tell(connection, EsimProvisioned(order_id=row.order_id, esim_id=esim_id, is_live=row.is_live))
            await enqueue(connection, Job.ESIM_PROVISIONED, esim_id=esim_id)
            return esim_of(row, vault)
    except IntegrityError as error:
        held = HELD_BY_ANOTHER.get(violated_constraint(error) or "")
        if held is None:
            raise
        raise CannotResolve(f"another eSIM already holds {held}: check what the provider's records say") from None


async def resolve_not_issued(db: Database, vault: Vault, esim_id: int, *, reason: str, actor: str) -> Esim:
    """
    A person found out that the provider issued nothing: the order may be activated again. Raises as `resolve_issued`.
    """
    async with db.begin() as connection:
        attempt_id = await _lock_unknown(connection, esim_id)
        await connection.execute(
            update(EsimProfile).where(EsimProfile.id == esim_id).values(status="pending", updated_at=func.now())
        )
        await record(
            connection,
            actor,
            Tag.ESIM_RESOLVED_NOT_ISSUED,
            "esim_profiles",
            esim_id,
            reason=redact(reason),
            attempt_id=attempt_id,
        )
        esim = await esim_by_id(connection, vault, esim_id)
        await tell(
            connection,
            EsimResolved(
                order_id=esim.order_id, esim_id=esim_id, is_live=esim.is_live, how="not_issued", status="pending"
            ),
        )
        return esim


async def _lock_unknown(connection: AsyncConnection, esim_id: int) -> int:
    status = await connection.scalar(select(EsimProfile.status).where(EsimProfile.id == esim_id).with_for_update())
    if status is None:
        raise NotFound(f"there is no eSIM {esim_id}")
    if status != "unknown":
        raise CannotResolve(f"eSIM {esim_id} is {status}: only an unknown one can be settled")
    attempt = (
        await connection.execute(
            select(
                ProvisioningAttempt.id,
                ProvisioningAttempt.outcome,
                (ProvisioningAttempt.deadline_at > func.now()).label("is_early"),
            )
            .where(ProvisioningAttempt.profile_id == esim_id)
            .order_by(ProvisioningAttempt.id.desc())
            .limit(1)
        )
    ).one()
    if attempt.is_early:
        raise CannotResolve(
            f"eSIM {esim_id}: the deadline of attempt {attempt.id} hasn't passed; its answer may still come"
        )
    if attempt.outcome is None:  # a replay, whose process has died: it would stand in the way of the next activation
        raise CannotResolve(
            f"eSIM {esim_id}: attempt {attempt.id} is under way until the recovery sweep ends it, in seconds"
        )
    return int(attempt.id)
