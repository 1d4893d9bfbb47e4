"""What follows a delivery: the traveller is sent what installs, once, although the job may run twice."""

import asyncio
from datetime import timedelta

import structlog
from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import DatabaseUnavailable
from app.house import House
from app.mail import SEND_TIMEOUT_S, MailNotSent, MailRefused, send_mail
from app.models import OutgoingMail
from app.services.esims.esim import esim_by_id
from app.services.esims.instructions_mail import instructions_mail
from app.services.orders.show import order_by_id

_KIND = "instructions"
_LEASE = timedelta(seconds=2 * SEND_TIMEOUT_S)
_NOTE_AGAIN_AFTER_S = 1
_DEVELOPMENT_SENDER = "tribi@localhost.invalid"

log = structlog.get_logger()

_WANTED = upsert(OutgoingMail).values(profile_id=bindparam("esim_id"), kind=_KIND).on_conflict_do_nothing()
_CLAIM = (
    update(OutgoingMail)
    .where(
        OutgoingMail.profile_id == bindparam("esim_id"),
        OutgoingMail.kind == _KIND,
        OutgoingMail.sent_at.is_(None),
        OutgoingMail.refused_at.is_(None),
        or_(OutgoingMail.leased_until.is_(None), OutgoingMail.leased_until < func.now()),
    )
    .values(leased_until=func.now() + _LEASE)
    .returning(OutgoingMail.id)
)
_OPEN = select(OutgoingMail.id).where(
    OutgoingMail.profile_id == bindparam("esim_id"),
    OutgoingMail.kind == _KIND,
    OutgoingMail.sent_at.is_(None),
    OutgoingMail.refused_at.is_(None),
)


class MailUnderWay(Exception):
    """Another worker is sending this message, or died doing so: the job is to come back when its lease is over."""


async def announce_provisioned(house: House, esim_id: int) -> None:
    """
    Sends the instructions of a provisioned eSIM.

    SMTP knows no exactly-once: if this process dies between the server's 250 and our note of it, the message goes out again,
    with the same Message-ID, by which mail programs show it once.

    Raises:
        MailNotSent, MailUnderWay: the job is to be tried again.
    """
    async with house.db.begin() as connection:
        esim = await esim_by_id(connection, house.vault, esim_id)
        code = esim.activation_code
        if code is None:
            log.error("esims.announced_before_provisioned", esim_id=esim_id)
            return
        order = await order_by_id(connection, esim.order_id)
        mail_id = await _claim(connection, esim_id)
    if mail_id is None:
        return
    message = instructions_mail(
        esim,
        code,
        to_name=order.customer_name,
        to_address=order.customer_email,
        sender=house.settings.mail_from or _DEVELOPMENT_SENDER,
        plan_name=order.plan_snapshot["name"],
    )
    try:
        await send_mail(house.settings, message)
    except MailRefused as error:
        log.warning("mail.refused", esim_id=esim_id, error=str(error))
        await _note(house, mail_id, refused_at=func.now(), error=str(error))
    except MailNotSent as error:
        await _note(house, mail_id, leased_until=None, error=str(error))
        raise
    else:
        await _note_sent(house, mail_id)
        log.info("mail.sent", esim_id=esim_id)


async def _claim(connection: AsyncConnection, esim_id: int) -> int | None:
    """The message's id if it is ours to send now, None if it has been dealt with."""
    await connection.execute(_WANTED, {"esim_id": esim_id})
    claimed: int | None = await connection.scalar(_CLAIM, {"esim_id": esim_id})
    if claimed is None and await connection.scalar(_OPEN, {"esim_id": esim_id}) is not None:
        raise MailUnderWay
    return claimed


async def _note_sent(house: House, mail_id: int) -> None:
    """Tried again while the lease lasts: a database that is away for a moment isn't worth a second message."""
    give_up_at = asyncio.get_running_loop().time() + _LEASE.total_seconds() - SEND_TIMEOUT_S
    while True:
        try:
            await _note(house, mail_id, sent_at=func.now(), error=None)
        except DatabaseUnavailable:
            if asyncio.get_running_loop().time() > give_up_at:
                raise
            await asyncio.sleep(_NOTE_AGAIN_AFTER_S)
        else:
            return


async def _note(house: House, mail_id: int, **values: object) -> None:
    async with house.db.begin() as connection:
        await connection.execute(update(OutgoingMail).where(OutgoingMail.id == mail_id).values(**values))
