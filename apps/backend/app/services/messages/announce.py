"""What follows a delivery: the traveller is sent what installs."""

from typing import Any

import structlog
from sqlalchemy import bindparam, func, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.direct import Direct
from app.house import House
from app.models import EsimProfile, OutgoingMail
from app.services.messages.deliver import CLAIMED, LEASE, MailUnderWay, deliver_claimed, is_free, is_open

_KIND = "instructions"

log = structlog.get_logger()

# Written and claimed at once; where it is written already, as `deliver` claims it.
_CLAIM = Direct(
    upsert(OutgoingMail)
    .from_select(
        ["profile_id", "kind", "leased_until"],
        select(EsimProfile.id, literal(_KIND), func.now() + LEASE).where(
            EsimProfile.id == bindparam("esim_id"), EsimProfile.status == "provisioned"
        ),
    )
    .on_conflict_do_update(
        index_elements=[OutgoingMail.profile_id, OutgoingMail.kind, OutgoingMail.number],
        set_={"leased_until": func.now() + LEASE},
        where=is_open & is_free,
    )
    .returning(*CLAIMED)
)
_WRITTEN = select(is_open.label("is_open")).where(
    OutgoingMail.profile_id == bindparam("esim_id"), OutgoingMail.kind == _KIND
)


async def announce_provisioned(house: House, esim_id: int) -> None:
    """
    Sends the instructions of a provisioned eSIM, once.

    Raises:
        MailNotSent, MailUnderWay: the job is to be tried again.
    """
    await deliver_claimed(house, lambda connection: _claim(connection, esim_id))


async def _claim(connection: AsyncConnection, esim_id: int) -> Any:  # noqa: ANN401 - a row, as `Direct` gives it
    claimed = await _CLAIM.one_or_none(connection, {"esim_id": esim_id})
    if claimed is None:
        written = (await connection.execute(_WRITTEN, {"esim_id": esim_id})).one_or_none()
        if written is None:
            log.error("esims.announced_before_provisioned", esim_id=esim_id)
        elif written.is_open:
            raise MailUnderWay
    return claimed
