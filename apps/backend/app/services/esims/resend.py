"""Sending what installs an eSIM again, because somebody asked for it; to another address, where the order's was mistyped."""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from typing import Final

from sqlalchemy import bindparam, func, insert, select, update

from app.audit import Tag, record
from app.errors import NotFound, RateLimited, TribiError
from app.house import House
from app.models import EsimProfile, Order, OutgoingMail
from app.queue import Job, enqueue
from app.services.orders.page_links import page_links, renew_page_token

MOST_A_DAY: Final = 5
"""Messages of an eSIM that may be asked for in any 24 hours; support isn't bound by it."""

_DAY: Final = timedelta(hours=24)


class NotProvisioned(TribiError):
    code = "not-provisioned"
    title = "The eSIM is not provisioned"
    meaning = "There is nothing to install yet. The message goes out by itself once the eSIM is provisioned."
    http_status = 409


@dataclass(frozen=True, slots=True)
class Resend:
    """`left_today`: how many more may be asked for before the oldest one is 24 hours old."""

    mail_id: int
    number: int
    left_today: int


# Orders are locked before profiles, everywhere.
_LOCK_ORDER = (
    select(Order.id)
    .join(EsimProfile, EsimProfile.order_id == Order.id)
    .where(EsimProfile.id == bindparam("esim_id"))
    .with_for_update(of=Order)
)
_LOCK = (
    select(EsimProfile.status, EsimProfile.order_id, EsimProfile.page_token.is_not(None).label("has_page"))
    .where(EsimProfile.id == bindparam("esim_id"))
    .with_for_update(key_share=True)
)
_IS_OF_TODAY = OutgoingMail.created_at > func.now() - _DAY
_EARLIER = select(
    func.coalesce(func.max(OutgoingMail.number), 0).label("last_number"),
    func.count().filter(_IS_OF_TODAY).label("today"),
    func.extract("epoch", func.min(OutgoingMail.created_at).filter(_IS_OF_TODAY) + _DAY - func.now()).label("wait_s"),
).where(OutgoingMail.profile_id == bindparam("esim_id"), OutgoingMail.kind == "resend")
_WRITE = (
    insert(OutgoingMail)
    .values(profile_id=bindparam("esim_id"), kind="resend", number=bindparam("number"))
    .returning(OutgoingMail.id)
)
_CORRECT = update(Order).where(Order.id == bindparam("order")).values(customer_email=bindparam("address"))


async def resend_instructions(
    house: House, esim_id: int, *, actor: str, to: str | None = None, is_limited: bool = True
) -> Resend:
    """
    Writes the message down, a new one with a number of its own; a job sends it.

    Args:
        to: an address of `read_email`, in place of the order's, which had a mistake in it. From now on it is the order's: later
            messages go there, too. The install page gets another link: somebody else may have the one before.
        is_limited: False for support.

    Raises:
        NotFound, NotProvisioned: there is nothing to send.
        RateLimited: MOST_A_DAY were asked for.
    """
    async with house.db.begin() as connection:
        if to is not None:
            await connection.execute(_LOCK_ORDER, {"esim_id": esim_id})
        profile = (await connection.execute(_LOCK, {"esim_id": esim_id})).one_or_none()
        if profile is None:
            raise NotFound(f"there is no eSIM {esim_id}")
        if profile.status != "provisioned":
            raise NotProvisioned(f"eSIM {esim_id} is {profile.status}: there is nothing to send yet")
        earlier = (await connection.execute(_EARLIER, {"esim_id": esim_id})).one()
        if is_limited and earlier.today >= MOST_A_DAY:
            raise _too_many(earlier.wait_s)
        if to is not None:
            await connection.execute(_CORRECT, {"order": profile.order_id, "address": to})
            await record(connection, actor, Tag.ORDER_ADDRESS_CORRECTED, "orders", profile.order_id)
            if profile.has_page:
                await renew_page_token(connection, page_links(house), esim_id, actor=actor)
        number = earlier.last_number + 1
        mail_id = await connection.scalar(_WRITE, {"esim_id": esim_id, "number": number})
        assert isinstance(mail_id, int)  # noqa: S101 - INSERT … RETURNING gives its row or an error
        await record(connection, actor, Tag.ESIM_RESENT, "esim_profiles", esim_id, number=number)
        await enqueue(connection, Job.MAIL_WRITTEN, mail_id=mail_id)
    return Resend(mail_id, number, left_today=max(MOST_A_DAY - earlier.today - 1, 0))


def _too_many(wait_s: float) -> RateLimited:
    return RateLimited(
        public_message=f"The message of this eSIM was asked for {MOST_A_DAY} times within 24 hours. Ask again after `Retry-After`.",
        retry_after_s=max(ceil(wait_s), 1),
    )
