"""What follows a delivery: the traveller is sent what installs."""

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert as upsert

from app.house import House
from app.models import EsimProfile, OutgoingMail
from app.services.messages.deliver import deliver

_KIND = "instructions"

log = structlog.get_logger()

_STATUS = select(EsimProfile.status).where(EsimProfile.id == bindparam("esim_id"))
_WRITE = upsert(OutgoingMail).values(profile_id=bindparam("esim_id"), kind=_KIND).on_conflict_do_nothing()
_WRITTEN = select(OutgoingMail.id).where(OutgoingMail.profile_id == bindparam("esim_id"), OutgoingMail.kind == _KIND)


async def announce_provisioned(house: House, esim_id: int) -> None:
    """
    Sends the instructions of a provisioned eSIM, once.

    Raises:
        MailNotSent, MailUnderWay: the job is to be tried again.
    """
    asked = {"esim_id": esim_id}
    async with house.db.begin() as connection:
        if await connection.scalar(_STATUS, asked) != "provisioned":
            log.error("esims.announced_before_provisioned", esim_id=esim_id)
            return
        await connection.execute(_WRITE, asked)
        mail_id = await connection.scalar(_WRITTEN, asked)
    assert isinstance(mail_id, int)  # noqa: S101 - just written, if not before
    await deliver(house, mail_id)
