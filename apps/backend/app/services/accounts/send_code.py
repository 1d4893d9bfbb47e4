"""What follows the wish for a code: its message goes out once, although the job may run twice, and the code is erased."""

from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy import Row, bindparam, func, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app import metrics
from app.audit import SYSTEM, Tag, record
from app.db import until_stored
from app.house import House
from app.mail import SEND_TIMEOUT_S, MailNotSent, MailRefused, send_mail
from app.models import Order, SignInCode
from app.models.orders import OWNER
from app.services.accounts.code_mail import code_mail
from app.services.accounts.codes import LIFE, place_of
from app.traveller import choose_language

_LEASE = timedelta(seconds=2 * SEND_TIMEOUT_S)

_count = partial(metrics.MAILS.labels, "sign_in_code")

log = structlog.get_logger()

_is_open = (
    SignInCode.id == bindparam("code_id"),
    SignInCode.code.is_not(None),
    SignInCode.used_at.is_(None),
    SignInCode.expires_at > func.now(),
)
_CLAIM = (
    update(SignInCode)
    .where(*_is_open, or_(SignInCode.leased_until.is_(None), SignInCode.leased_until < func.now()))
    .values(leased_until=func.now() + _LEASE)
    .returning(SignInCode.address, SignInCode.code, SignInCode.language, SignInCode.created_at)
)
_OPEN = select(SignInCode.id).where(*_is_open)
_ERASE = update(SignInCode).where(SignInCode.id == bindparam("code_id")).values(code=None)
_SENT = (
    update(SignInCode)
    .where(SignInCode.id == bindparam("code_id"), SignInCode.sent_at.is_(None))
    .values(code=None, sent_at=func.now())
)
_NEWEST_ORDER = (
    select(Order.customer_email, Order.customer_locale)
    .where(literal_column(OWNER) == bindparam("address"))
    .order_by(Order.id.desc())
    .limit(1)
)


class CodeUnderWay(Exception):
    """Another worker is sending this message, or died doing so: the job is to come back when its lease is over."""


async def send_code(house: House, code_id: int) -> None:
    """
    Sends a code to the address as it stands on its newest order, so that nobody gets a code for an address that only looks like
    theirs; in the language that was asked for, else in that order's. To an address without orders nothing is sent: Tribi is no
    means of sending mail to strangers.

    Raises:
        MailNotSent, CodeUnderWay: the job is to be tried again. Once the code has run out it does nothing.
    """
    async with house.db.begin() as connection:
        claimed = await _claim(connection, code_id)
        if claimed is None:
            await connection.execute(_ERASE, {"code_id": code_id})
            return
        address = house.vault.open_text(claimed.address, place_of("address", code_id))
        order = (await connection.execute(_NEWEST_ORDER, {"address": address})).one_or_none()
        if order is None:
            await connection.execute(_ERASE, {"code_id": code_id})
            log.info("travellers.code_not_sent", code_id=code_id, reason="the address has no orders")
            return
    code = house.vault.open_text(claimed.code, place_of("code", code_id))
    assert code is not None  # noqa: S101 - the claim's condition
    theirs = choose_language(None, wish=order.customer_locale, otherwise=house.settings.default_language)
    message = code_mail(
        house.settings,
        code_id,
        code,
        asked_at=claimed.created_at,
        to_address=order.customer_email,
        language=choose_language(None, wish=claimed.language, otherwise=theirs),
        minutes=int(LIFE.total_seconds() // 60),
    )
    try:
        await send_mail(house.settings, message)
    except MailRefused as error:
        _count("refused").inc()
        log.warning("mail.refused", code_id=code_id, error=str(error))
        await _note(house, code_id, code=None)
    except MailNotSent:
        _count("put_off").inc()
        await _note(house, code_id, leased_until=None)
        raise
    else:
        # Tried again while the lease lasts: a database that is away for a moment isn't worth a second message.
        await until_stored(lambda: _note_sent(house, code_id), _LEASE.total_seconds() - SEND_TIMEOUT_S)
        _count("sent").inc()
        log.info("mail.sent", code_id=code_id)


async def _claim(connection: AsyncConnection, code_id: int) -> Row[bytes, bytes | None, str, datetime] | None:
    """What is ours to send now; None where there is nothing to send any more."""
    claimed: Row[bytes, bytes | None, str, datetime] | None = (
        await connection.execute(_CLAIM, {"code_id": code_id})
    ).one_or_none()
    if claimed is None and await connection.scalar(_OPEN, {"code_id": code_id}) is not None:
        raise CodeUnderWay
    return claimed


async def _note(house: House, code_id: int, **values: object) -> None:
    async with house.db.begin() as connection:
        await connection.execute(update(SignInCode).where(SignInCode.id == code_id).values(**values))


async def _note_sent(house: House, code_id: int) -> None:
    """Once, although it may be done twice: the answer to a commit may have been lost."""
    async with house.db.begin() as connection:
        if (await connection.execute(_SENT, {"code_id": code_id})).rowcount:
            await record(connection, SYSTEM, Tag.CODE_SENT, SignInCode.__tablename__, code_id)
