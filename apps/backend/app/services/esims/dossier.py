"""Everything on file about one eSIM, for staff."""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import EsimProfile, OutgoingMail, ProvisioningAttempt
from app.services.esims.esim import Esim, esim_by_id, place_of
from app.services.esims.intent import attempt_place
from app.vault import Vault


@dataclass(frozen=True, slots=True)
class Dossier:
    """
    `provider_payload` and each attempt's `request` and `response_body`: parsed JSON where it is JSON, else text. `mails`: of each
    message when it was written, sent or refused, and the mail server's last words.
    """

    esim: Esim
    provider_payload: Any
    attempts: list[dict[str, Any]]
    mails: list[dict[str, Any]]


_PAYLOAD = select(EsimProfile.provider_payload).where(EsimProfile.id == bindparam("id"))
_ATTEMPTS = (
    select(ProvisioningAttempt.__table__)
    .where(ProvisioningAttempt.profile_id == bindparam("id"))
    .order_by(ProvisioningAttempt.id)
)
_MAILS = (
    select(
        OutgoingMail.id,
        OutgoingMail.kind,
        OutgoingMail.number,
        OutgoingMail.created_at,
        OutgoingMail.sent_at,
        OutgoingMail.refused_at,
        OutgoingMail.error,
    )
    .where(OutgoingMail.profile_id == bindparam("id"))
    .order_by(OutgoingMail.id)
)


async def dossier_of(connection: AsyncConnection, vault: Vault, esim_id: int) -> Dossier:
    """
    Raises:
        NotFound: there is no such eSIM.
    """
    esim = await esim_by_id(connection, vault, esim_id)
    sealed = await connection.scalar(_PAYLOAD, {"id": esim_id})
    payload = _readable(vault.keyring.open(sealed, place_of("provider_payload", esim_id)) if sealed else None)
    attempts = [_attempt(row._mapping, vault) for row in await connection.execute(_ATTEMPTS, {"id": esim_id})]  # noqa: SLF001 - SQLAlchemy's documented accessor
    mails = [dict(row._mapping) for row in await connection.execute(_MAILS, {"id": esim_id})]  # noqa: SLF001 - as above
    return Dossier(esim, payload, attempts, mails)


def _attempt(row: Any, vault: Vault) -> dict[str, Any]:  # noqa: ANN401 - a row mapping
    shown = dict(row)
    for column in ("request", "response_body"):
        sealed = row[column]
        shown[column] = _readable(vault.keyring.open(sealed, attempt_place(column, row["id"])) if sealed else None)
    return shown


def _readable(body: bytes | None) -> Any:  # noqa: ANN401 - whatever a provider sent
    if body is None:
        return None
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text, parse_constant=str)  # NaN is no JSON (RFC 8259 section 6), yet some send it
    except (ValueError, RecursionError):
        return text
