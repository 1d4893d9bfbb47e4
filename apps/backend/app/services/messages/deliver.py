"""A message that is written down goes out: once, although its job may run twice."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import structlog
from sqlalchemy import and_, bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app import metrics
from app.audit import SYSTEM
from app.db import until_stored
from app.direct import Direct
from app.house import House
from app.mail import SEND_TIMEOUT_S, MailNotSent, MailRefused, send_mail
from app.models import CrossedThreshold, EsimProfile, OutgoingMail
from app.models.mail import NOTICES
from app.services.esims.esim import Esim, esim_by_id
from app.services.messages.instructions import instructions_mail
from app.services.messages.letter import Letter
from app.services.messages.notices import is_still_true, notice_mail
from app.services.orders.page_links import NoPageLink, page_address, page_links, page_token_of
from app.services.orders.show import order_by_id
from app.settings import public_url

LEASE = timedelta(seconds=2 * SEND_TIMEOUT_S)
"""Whoever claims a message has it for so long."""

log = structlog.get_logger()

is_open = and_(OutgoingMail.sent_at.is_(None), OutgoingMail.refused_at.is_(None))
is_free = or_(OutgoingMail.leased_until.is_(None), OutgoingMail.leased_until < func.now())

CLAIMED: Sequence[Any] = (
    OutgoingMail.id,
    OutgoingMail.profile_id,
    OutgoingMail.kind,
    OutgoingMail.number,
    OutgoingMail.created_at,
)
"""What is to be known of a message that was claimed."""

Claim = Callable[[AsyncConnection], Awaitable[Any]]
"""
Takes a message for the lease. Gives CLAIMED of its row, None if it has been dealt with.

Raises:
    MailUnderWay: it is somebody else's now.
"""

_CLAIM = Direct(
    update(OutgoingMail)
    .where(OutgoingMail.id == bindparam("mail_id"), is_open, is_free)
    .values(leased_until=func.now() + LEASE)
    .returning(*CLAIMED)
)
_OPEN = select(OutgoingMail.id).where(OutgoingMail.id == bindparam("mail_id"), is_open)
_DROP = delete(OutgoingMail).where(OutgoingMail.id == bindparam("mail_id"))
_TERM = select(
    EsimProfile.plan_expires_at,
    func.coalesce(EsimProfile.plan_expires_at < func.now(), False).label("is_over"),
).where(EsimProfile.id == bindparam("esim_id"))
_of_mail = update(OutgoingMail).where(OutgoingMail.id == bindparam("mail_id"))
_SENT = Direct(_of_mail.values(sent_at=func.now(), error=bindparam("said")))
_REFUSED = Direct(_of_mail.values(refused_at=func.now(), error=bindparam("said")))
_PUT_OFF = Direct(_of_mail.values(leased_until=None, error=bindparam("said")))
_CROSSED = select(CrossedThreshold.threshold).where(CrossedThreshold.profile_id == bindparam("esim_id"))


class MailUnderWay(Exception):
    """Another worker is sending this message, or died doing so: the job is to come back when its lease is over."""


async def deliver(house: House, mail_id: int) -> None:
    """
    Sends a message that is written down; one that was sent, refused or dropped is left alone.

    Raises:
        MailNotSent, MailUnderWay: the job is to be tried again.
    """
    await deliver_claimed(house, lambda connection: _claim(connection, mail_id))


async def deliver_claimed(house: House, claim: Claim) -> None:
    """
    Sends the message that is claimed, if there is one. Where its letter can't be made, it isn't claimed either, nor was it written.

    SMTP knows no exactly-once: if this process dies between the server's 250 and our note of it, the message goes out again,
    with the same Message-ID, by which mail programs show it once.

    Raises:
        MailNotSent, MailUnderWay: the job is to be tried again.
    """
    expires_at = None
    async with house.db.begin() as connection:
        claimed = await claim(connection)
        if claimed is None:
            return
        letter = await _letter(connection, house, claimed)
        if letter.kind in NOTICES:
            term = (await connection.execute(_TERM, {"esim_id": letter.esim.id})).one()
            expires_at = term.plan_expires_at
            if not is_still_true(letter, await _crossed(connection, letter), is_over=term.is_over):
                await connection.execute(_DROP, {"mail_id": claimed.id})
                log.info(
                    "mail.dropped", esim_id=letter.esim.id, kind=letter.kind, reason="what it says is no longer so"
                )
                return
    if letter.kind in NOTICES:
        message = notice_mail(house.settings, letter, expires_at=expires_at)
    else:
        message = instructions_mail(house.settings, letter)
    await _send(house, claimed.id, letter, message)


async def _send(house: House, mail_id: int, letter: Letter, message: EmailMessage) -> None:
    said = {"esim_id": letter.esim.id, "kind": letter.kind}
    outcome = metrics.MAILS.labels
    try:
        await send_mail(house.settings, message)
    except MailRefused as error:
        await _note(house, _REFUSED, mail_id, str(error))
        outcome(letter.kind, "refused").inc()
        log.warning("mail.refused", **said, error=str(error))
    except MailNotSent as error:
        outcome(letter.kind, "put_off").inc()
        await _note(house, _PUT_OFF, mail_id, str(error))
        raise
    else:
        await _note_sent(house, mail_id)
        outcome(letter.kind, "sent").inc()
        log.info("mail.sent", **said)


async def _claim(connection: AsyncConnection, mail_id: int) -> Any:  # noqa: ANN401 - a row, as `Direct` gives it
    claimed = await _CLAIM.one_or_none(connection, {"mail_id": mail_id})
    if claimed is None and await connection.scalar(_OPEN, {"mail_id": mail_id}) is not None:
        raise MailUnderWay
    return claimed


async def _letter(connection: AsyncConnection, house: House, claimed: Any) -> Letter:  # noqa: ANN401 - of `_claim`
    esim = await esim_by_id(connection, house.vault, claimed.profile_id)
    return Letter(
        kind=claimed.kind,
        number=claimed.number,
        written_at=claimed.created_at,
        esim=esim,
        order=await order_by_id(connection, esim.order_id),
        page_url=await _page_url(connection, house, esim),
    )


async def _page_url(connection: AsyncConnection, house: House, esim: Esim) -> str | None:
    """None where it was withdrawn or has expired, and where a link would lead nowhere: no address of ours is known outside."""
    settings = house.settings
    if settings.smtp_url is not None and settings.public_url is None:
        return None
    try:
        token = esim.page_token or await page_token_of(connection, page_links(house), esim.id, actor=SYSTEM)
    except NoPageLink:
        return None
    return page_address(public_url(settings), token)


async def _crossed(connection: AsyncConnection, letter: Letter) -> set[str]:
    return set(await connection.scalars(_CROSSED, {"esim_id": letter.esim.id}))


async def _note_sent(house: House, mail_id: int) -> None:
    """Tried again while the lease lasts: a database that is away for a moment isn't worth a second message."""
    await until_stored(lambda: _note(house, _SENT, mail_id), LEASE.total_seconds() - SEND_TIMEOUT_S)


async def _note(house: House, outcome: Direct, mail_id: int, said: str | None = None) -> None:
    async with house.db.read() as connection:
        await outcome.run(connection, {"mail_id": mail_id, "said": said})
