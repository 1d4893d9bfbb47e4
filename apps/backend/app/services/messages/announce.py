"""What follows a delivery: the traveller is sent what installs."""

import structlog
from sqlalchemy import bindparam, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert

from app.direct import Direct
from app.house import House
from app.models import EsimProfile, OutgoingMail
from app.services.messages.deliver import deliver

_KIND = "instructions"

log = structlog.get_logger()

_is_provisioned = (EsimProfile.id == bindparam("esim_id"), EsimProfile.status == "provisioned")
_WRITE = Direct(
    upsert(OutgoingMail)
    .from_select(["profile_id", "kind"], select(EsimProfile.id, literal(_KIND)).where(*_is_provisioned))
    .on_conflict_do_nothing()
    .returning(OutgoingMail.id)
)
_WRITTEN = Direct(
    select(OutgoingMail.id)
    .join(EsimProfile, EsimProfile.id == OutgoingMail.profile_id)
    .where(*_is_provisioned, OutgoingMail.kind == _KIND)
)


async def announce_provisioned(house: House, esim_id: int) -> None:
    """
    Sends the instructions of a provisioned eSIM, once.

    Raises:
        MailNotSent, MailUnderWay: the job is to be tried again.
    """
    asked = {"esim_id": esim_id}
    async with house.db.read() as connection:
        mail = await _WRITE.one_or_none(connection, asked) or await _WRITTEN.one_or_none(connection, asked)
    if mail is None:
        log.error("esims.announced_before_provisioned", esim_id=esim_id)
        return
    await deliver(house, mail.id)
