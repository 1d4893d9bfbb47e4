"""Transaction two: the answer. Profile, attempt, payload, audit row and job together, once, whoever else writes meanwhile."""

from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Text, bindparam, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app import failpoints, metrics
from app.audit import RECORD, Tag, entry, record
from app.db import Database, violated_constraint
from app.direct import Direct
from app.failpoints import Point
from app.models import EsimProfile, ProviderState, ProvisioningAttempt
from app.queue import Job, enqueue
from app.services.esim_providers import (
    Accepted,
    Answer,
    Delivered,
    EsimProvisioningError,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
    SupplierUnreachable,
)
from app.services.esims.esim import COLUMNS, Esim, esim_by_order, esim_of, place_of
from app.services.esims.intent import Intent, attempt_place, file_again
from app.services.webhooks.events import EsimOutcomeUnknown, EsimProvisioned, EsimRefused, News
from app.services.webhooks.tell import TELLING, tell, telling
from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid
from app.vault import Vault

_WITHIN_S = 30
"""A database that has said nothing for so long is away; storing twice is harmless."""

Result = Delivered | Accepted | EsimProvisioningError

log = structlog.get_logger()

HELD_BY_ANOTHER = {
    "uq_esim_profiles_activation_code": "an activation code",
    "uq_esim_profiles_iccid": "an ICCID",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a provider's result means for the attempt and the profile."""

    outcome: str
    status: str
    tag: Tag
    answer: Answer | None
    problem: str | None = None
    retry_after_s: int | None = None
    error: str | None = field(default=None, repr=False)


def verdict_on(result: Result) -> Verdict:
    """The table of design section 3. Anything not named in it is unknown."""
    match result:
        case Delivered():
            return Verdict("delivered", "provisioned", Tag.ESIM_PROVISIONED, result.answer)
        case Accepted():
            return Verdict("accepted", "provisioning", Tag.ESIM_ACCEPTED, result.answer)
        case SupplierUnreachable():
            outcome, status, tag = "not_sent", "pending", Tag.ESIM_NOT_SENT
        case SupplierRateLimited():
            outcome, status, tag = "held_off", "pending", Tag.ESIM_HELD_OFF
        case SupplierRefused():
            outcome, status, tag = "refused", "refused", Tag.ESIM_REFUSED
        case _:
            outcome, status, tag = "unknown", "unknown", Tag.ESIM_OUTCOME_UNKNOWN
    return Verdict(outcome, status, tag, result.answer, result.code, result.retry_after_s, str(result))


# The compare-and-set: only while this very attempt is open. A sweep or a person may have been quicker.
_settling = (
    update(EsimProfile)
    .where(
        EsimProfile.id == bindparam("profile_id"),
        EsimProfile.status == "provisioning",
        exists().where(
            ProvisioningAttempt.id == bindparam("attempt_id"),
            ProvisioningAttempt.profile_id == EsimProfile.id,
            ProvisioningAttempt.outcome.is_(None),
        ),
    )
    .returning(*COLUMNS)
)
_SETTLE_PROFILE = _settling.values(
    status=bindparam("status"),
    provider_reference=func.coalesce(bindparam("provider_reference"), EsimProfile.provider_reference),
    provider_payload=func.coalesce(bindparam("payload"), EsimProfile.provider_payload),
    updated_at=func.now(),
)
_DELIVERED_VALUES = {
    "status": "provisioned",
    "provider_payload": bindparam("payload"),
    "provider_reference": bindparam("provider_reference"),
    "provisioned_at": func.now(),
    "activation_code": bindparam("activation_code"),
    "activation_code_fingerprint": bindparam("activation_code_fingerprint"),
    "iccid": bindparam("iccid"),
    "iccid_fingerprint": bindparam("iccid_fingerprint"),
    "qr_code": bindparam("qr_code"),
    "instructions": bindparam("instructions"),
    "warnings": bindparam("warnings"),
    "plan_state": "not_started",
    "updated_at": func.now(),
}
_DELIVER_PROFILE = Direct(_settling.values(_DELIVERED_VALUES))
_LATE_DELIVERY = (
    update(EsimProfile).where(EsimProfile.id == bindparam("profile_id")).values(_DELIVERED_VALUES).returning(*COLUMNS)
)
_CLOSE_ATTEMPT = (
    update(ProvisioningAttempt)
    .where(ProvisioningAttempt.id == bindparam("attempt_id"))
    .values(
        outcome=bindparam("outcome"),
        problem=bindparam("problem"),
        retry_after_s=bindparam("retry_after_s"),
        closed_at=func.now(),
        response_status=bindparam("response_status"),
        response_body=bindparam("response_body"),
        error=bindparam("error"),
        duration_ms=func.extract("epoch", func.clock_timestamp() - ProvisioningAttempt.opened_at) * 1000,
    )
)
_conclude = RECORD.add_cte(_CLOSE_ATTEMPT.cte("closed"))
_CONCLUDE = Direct(_conclude)
"""Both in one round trip: every activation comes by here."""
_CONCLUDE_AND_TELL = Direct(_conclude.add_cte(TELLING))
_NEWS: dict[str, type[EsimProvisioned | EsimRefused | EsimOutcomeUnknown]] = {
    "provisioned": EsimProvisioned,
    "refused": EsimRefused,
    "unknown": EsimOutcomeUnknown,
}
"""What sellers hear of, by the status that an answer leads to."""
_hold = upsert(ProviderState).values(
    provider=bindparam("provider"),
    rate_limited_until=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("retry_after_s")),
)
_HOLD_PROVIDER = _hold.on_conflict_do_update(
    index_elements=["provider"],
    set_={
        "rate_limited_until": func.greatest(ProviderState.rate_limited_until, _hold.excluded.rate_limited_until),
        "updated_at": func.now(),
    },
)
_LOCK_BOTH = (
    select(
        EsimProfile.status,
        EsimProfile.is_live,
        EsimProfile.activation_code_fingerprint,
        ProvisioningAttempt.outcome,
    )
    .join(ProvisioningAttempt, ProvisioningAttempt.profile_id == EsimProfile.id)
    .where(ProvisioningAttempt.id == bindparam("attempt_id"), EsimProfile.id == bindparam("profile_id"))
    .with_for_update()
)
_LOCK_PROFILE = Direct(
    select(EsimProfile.status, EsimProfile.is_live).where(EsimProfile.id == bindparam("profile_id")).with_for_update()
)
_KEEP_WORDS = (
    update(ProvisioningAttempt)
    .where(
        ProvisioningAttempt.id == bindparam("attempt_id"),
        ProvisioningAttempt.error.is_distinct_from(bindparam("error", type_=Text)),
    )
    .values(
        response_status=bindparam("response_status"),
        response_body=bindparam("response_body"),
        error=bindparam("error", type_=Text),
    )
)
_KEEP_PAYLOAD = (
    update(EsimProfile).where(EsimProfile.id == bindparam("profile_id")).values(provider_payload=bindparam("payload"))
)


async def record_answer(
    db: Database, vault: Vault, intent: Intent, provider: str, result: Result
) -> tuple[Esim, Result]:
    """
    Stores what came of an attempt; storing the same result again changes nothing.

    Returns:
        The eSIM as it stands now, and the result as it was stored: a delivery of what another eSIM holds is an unknown outcome.

    Raises:
        DatabaseUnavailable: not (or not surely) stored; call again with the same arguments.
    """
    try:
        async with db.begin(within_s=_WITHIN_S) as connection:
            return await _record(connection, vault, intent, provider, result), result
    except IntegrityError as error:
        held = HELD_BY_ANOTHER.get(violated_constraint(error) or "")
        if held is None or not isinstance(result, Delivered):
            raise
    stolen = SupplierOutcomeUnknown(
        f"the answer for {intent.order.reference} brings {held} that another eSIM holds", answer=result.answer
    )
    return await record_answer(db, vault, intent, provider, stolen)


async def _record(connection: AsyncConnection, vault: Vault, intent: Intent, provider: str, result: Result) -> Esim:
    verdict = verdict_on(result)
    failpoints.reached(Point.ANSWER_BEGUN, intent.order.reference)
    key = {"profile_id": intent.profile_id, "attempt_id": intent.attempt_id}
    # First, so that what follows sees what an intent still being committed, a sweep or a person has written.
    await _LOCK_PROFILE.run(connection, {"profile_id": intent.profile_id})
    body = verdict.answer.body if verdict.answer else None
    payload = None if body is None else vault.keyring.seal(body, place_of("provider_payload", intent.profile_id))

    if isinstance(result, Delivered):
        values = _delivered_values(vault, intent.profile_id, result) | {"payload": payload}
        row = await _DELIVER_PROFILE.one_or_none(connection, key | values)
    else:
        row = (
            await connection.execute(
                _SETTLE_PROFILE,
                key
                | {
                    "status": verdict.status,
                    "payload": payload,
                    "provider_reference": result.provider_reference if isinstance(result, Accepted) else None,
                },
            )
        ).one_or_none()
    if row is None:
        return await _record_late(connection, vault, intent, provider, result)
    failpoints.reached(Point.ANSWER_SETTLED, intent.order.reference)

    ending = _ending_of(vault, intent.attempt_id, verdict)
    told = entry(intent.requested_by, verdict.tag, "esim_profiles", intent.profile_id, attempt_id=intent.attempt_id)
    news = _news_of(intent, verdict.status, is_live=row.is_live)
    if news is None:
        await _CONCLUDE.run(connection, ending | told)
    else:
        await _CONCLUDE_AND_TELL.run(connection, ending | told | telling(news))
    if isinstance(result, SupplierRateLimited) and result.retry_after_s:
        await connection.execute(_HOLD_PROVIDER, {"provider": provider, "retry_after_s": result.retry_after_s})
    if isinstance(result, Delivered):
        await enqueue(connection, Job.ESIM_PROVISIONED, esim_id=intent.profile_id)
    failpoints.reached(Point.ANSWER_WRITTEN, intent.order.reference)
    return esim_of(row, vault)


async def _record_late(
    connection: AsyncConnection, vault: Vault, intent: Intent, provider: str, result: Result
) -> Esim:
    """
    The attempt isn't open any more: this result was stored already and only its acknowledgement was lost, or a sweep or a
    person closed the attempt first. An eSIM that comes late is still the order's, unless that has got another one.
    """
    row = (
        await connection.execute(_LOCK_BOTH, {"attempt_id": intent.attempt_id, "profile_id": intent.profile_id})
    ).one_or_none()
    if row is None:
        if isinstance(result, SupplierUnreachable):
            return await esim_by_order(connection, vault, intent.order_id)  # its intent was never committed
        log.critical("esims.attempt_forgotten", order_id=intent.order_id, attempt_id=intent.attempt_id)
        profile = await _LOCK_PROFILE.one_or_none(connection, {"profile_id": intent.profile_id})
        if not isinstance(result, Delivered) and profile.status in {"pending", "refused"}:
            await connection.execute(
                update(EsimProfile).where(EsimProfile.id == intent.profile_id).values(status="unknown")
            )
            await tell(connection, _about(intent, EsimOutcomeUnknown, is_live=profile.is_live))
        intent = await file_again(connection, vault, intent, provider, profile.is_live)
        row = (
            await connection.execute(_LOCK_BOTH, {"attempt_id": intent.attempt_id, "profile_id": intent.profile_id})
        ).one()
    if row.outcome in {"delivered", "surplus"}:
        return await esim_by_order(connection, vault, intent.order_id)

    verdict = verdict_on(result)
    values = _delivered_values(vault, intent.profile_id, result) if isinstance(result, Delivered) else {}
    is_typed_in = row.activation_code_fingerprint is not None and row.activation_code_fingerprint == values.get(
        "activation_code_fingerprint"
    )  # a person has typed in this very code
    if isinstance(result, Delivered) and not is_typed_in:
        if row.status not in {"provisioned", "cancelled"}:
            payload = vault.keyring.seal(result.answer.body, place_of("provider_payload", intent.profile_id))
            await connection.execute(_LATE_DELIVERY, {"profile_id": intent.profile_id, "payload": payload} | values)
            await tell(connection, _about(intent, EsimProvisioned, is_live=row.is_live))
            await enqueue(connection, Job.ESIM_PROVISIONED, esim_id=intent.profile_id)
        else:
            metrics.SURPLUS.inc()
            log.error("esims.surplus", order_id=intent.order_id, attempt_id=intent.attempt_id)
            verdict = Verdict(
                "surplus",
                row.status,
                Tag.ESIM_SURPLUS,
                result.answer,
                error="issued, but the order has another eSIM by now",
            )
        await connection.execute(_CLOSE_ATTEMPT, _ending_of(vault, intent.attempt_id, verdict))
    elif (
        row.outcome is None
    ):  # a replay; or an earlier attempt's late answer has settled the order while this one was under way
        await connection.execute(_CLOSE_ATTEMPT, _ending_of(vault, intent.attempt_id, verdict))
        if row.status == "unknown":
            await _keep_payload(connection, vault, intent, verdict)
    elif not await _keep_words(connection, vault, intent, verdict):
        return await esim_by_order(connection, vault, intent.order_id)  # stored already
    if isinstance(result, SupplierRateLimited) and result.retry_after_s:
        await connection.execute(_HOLD_PROVIDER, {"provider": provider, "retry_after_s": result.retry_after_s})
    await record(
        connection,
        intent.requested_by,
        verdict.tag,
        "esim_profiles",
        intent.profile_id,
        attempt_id=intent.attempt_id,
        late=row.outcome is not None,
    )
    return await esim_by_order(connection, vault, intent.order_id)


def _news_of(intent: Intent, status: str, *, is_live: bool) -> News | None:
    kind = _NEWS.get(status)
    return _about(intent, kind, is_live=is_live) if kind else None


def _about(intent: Intent, kind: type[EsimProvisioned | EsimRefused | EsimOutcomeUnknown], *, is_live: bool) -> News:
    return kind(order_id=intent.order_id, esim_id=intent.profile_id, is_live=is_live)


async def _keep_words(connection: AsyncConnection, vault: Vault, intent: Intent, verdict: Verdict) -> bool:
    """What came too late to settle anything stays on its attempt for the person who does. Returns False if it is there already."""
    kept = await connection.execute(_KEEP_WORDS, _words(vault, intent.attempt_id, verdict))
    if kept.rowcount:
        await _keep_payload(connection, vault, intent, verdict)
    return bool(kept.rowcount)


async def _keep_payload(connection: AsyncConnection, vault: Vault, intent: Intent, verdict: Verdict) -> None:
    if verdict.answer:
        payload = vault.keyring.seal(verdict.answer.body, place_of("provider_payload", intent.profile_id))
        await connection.execute(_KEEP_PAYLOAD, {"profile_id": intent.profile_id, "payload": payload})


def _ending_of(vault: Vault, attempt_id: int, verdict: Verdict) -> dict[str, Any]:
    """How an attempt ended, and what was said on it."""
    ending = {"outcome": verdict.outcome, "problem": verdict.problem, "retry_after_s": verdict.retry_after_s}
    return ending | _words(vault, attempt_id, verdict)


def _words(vault: Vault, attempt_id: int, verdict: Verdict) -> dict[str, Any]:
    """What was said on an attempt, sealed for it."""
    answer = verdict.answer
    return {
        "attempt_id": attempt_id,
        "response_status": answer.status if answer else None,
        "response_body": vault.keyring.seal(answer.body, attempt_place("response_body", attempt_id))
        if answer
        else None,
        "error": _storable(verdict.error),
    }


def _delivered_values(vault: Vault, profile_id: int, result: Delivered) -> dict[str, Any]:
    return code_values(vault, profile_id, result.activation_code, result.iccid) | {
        "provider_reference": result.provider_reference,
        "qr_code": vault.seal_text(result.qr_code, place_of("qr_code", profile_id)),
        "instructions": vault.seal_text(result.instructions, place_of("instructions", profile_id)),
        "warnings": list(result.warnings),
    }


def code_values(vault: Vault, profile_id: int, code: ActivationCode, iccid: Iccid | None) -> dict[str, bytes | None]:
    """What an issued eSIM is known by, sealed for its profile, and the fingerprints that make it unique."""
    code_identity = code.identity
    iccid_identity = iccid.identity if iccid else None
    return {
        "activation_code": vault.seal_text(code.text, place_of("activation_code", profile_id)),
        "activation_code_fingerprint": vault.fingerprint("activation_code", code_identity) if code_identity else None,
        "iccid": vault.seal_text(iccid.text if iccid else None, place_of("iccid", profile_id)),
        "iccid_fingerprint": vault.fingerprint("iccid", iccid_identity) if iccid_identity else None,
    }


def _storable(text: str | None) -> str | None:
    """Without what a text column can't hold (NUL, lone surrogates out of undecodable headers)."""
    return None if text is None else text.encode("utf-8", "replace").decode().replace("\0", "�")
