"""
The link to an order's install page: made with the order, shown again to whoever may see the order, found by whoever holds it.

It ends with a token of 160 random bits. Its SHA-256 is looked up (so many bits need no salt, and nobody tries them all), and the
token itself is sealed, so that it can be shown again.
"""

import hashlib
import re
import secrets
from base64 import b32encode
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Integer, LargeBinary, Row, bindparam, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Tag, record
from app.errors import NotFound
from app.house import House
from app.models import EsimProfile, Order
from app.vault import Place, Vault

_TOKEN_BYTES: Final = 20
# Small letters and digits only: nothing that programs leave off at the end of a link, nothing that is misread.
_TOKEN: Final = re.compile("[a-z2-7]{32}")

PAGE_COLUMNS: Final[dict[str, Any]] = {
    "page_token": bindparam("page_token", type_=LargeBinary),
    "page_token_hash": bindparam("page_hash", type_=LargeBinary),
    "page_expires_at": func.now() + func.make_interval(0, 0, 0, bindparam("page_days", type_=Integer)),
}
"""What a statement writes of a link; takes what `PageLinks.new` or `no_page` gives."""

VALID_PAGE_TOKEN = case((EsimProfile.page_expires_at > func.now(), EsimProfile.page_token))
"""An eSIM's token, sealed; null where it has expired, too."""


class NoPageLink(NotFound):
    """The eSIM has no link that works: it has expired or was withdrawn. Its message says which, and what to do."""


def token_hash(token: str) -> bytes | None:
    """What a token is looked up by; None for what can't be one."""
    return hashlib.sha256(token.encode()).digest() if _TOKEN.fullmatch(token) else None


def open_page_token(vault: Vault, profile_id: int, sealed: bytes | None) -> str | None:
    return vault.open_text(sealed, _place(profile_id))


def page_address(base_url: str, token: str) -> str:
    """
    The link itself, a secret.

    Args:
        base_url: what links start with, without a slash at the end.
    """
    return f"{base_url}/i/{token}"


@dataclass(frozen=True, slots=True)
class PageLinks:
    """
    Makes links.

    Attributes:
        days: how long one works beyond the plan's validity, from when it is made.
    """

    vault: Vault
    days: int

    def new(self, profile_id: int, validity_days: int) -> dict[str, Any]:
        """A new link for an eSIM, as PAGE_COLUMNS take it."""
        return self.of(_new_token(), profile_id, validity_days)

    def of(self, token: str, profile_id: int, validity_days: int) -> dict[str, Any]:
        """The link with this token, as PAGE_COLUMNS take it."""
        return {
            "page_token": self.vault.seal_text(token, _place(profile_id)),
            "page_hash": token_hash(token),
            "page_days": validity_days + self.days,
        }


def page_links(house: House) -> PageLinks:
    return PageLinks(house.vault, house.settings.install_link_days)


def no_page() -> dict[str, Any]:
    """No link, as PAGE_COLUMNS take it."""
    return {"page_token": None, "page_hash": None, "page_days": None}


_LOCK = (
    select(
        VALID_PAGE_TOKEN.label("page_token"),
        EsimProfile.page_token.is_not(None).label("has_token"),
        EsimProfile.page_expires_at,
        Order.plan_snapshot["validity_days"].as_integer().label("validity_days"),
    )
    .join(Order, Order.id == EsimProfile.order_id)
    .where(EsimProfile.id == bindparam("esim_id"))
    .with_for_update(of=EsimProfile)
)
_WRITE = update(EsimProfile).where(EsimProfile.id == bindparam("esim_id")).values(PAGE_COLUMNS)
_WITHDRAW = (
    update(EsimProfile)
    .where(EsimProfile.id == bindparam("esim_id"))
    .values(page_token=None, page_token_hash=None, page_expires_at=func.now())
)
_EXPIRY = select(EsimProfile.page_expires_at).where(EsimProfile.id == bindparam("esim_id"))


async def page_token_of(connection: AsyncConnection, links: PageLinks, esim_id: int, *, actor: str) -> str:
    """
    The token of an eSIM's page; made now where there never was one, as for orders older than these pages.

    Raises:
        NoPageLink: it has expired or was withdrawn; only a person makes another one.
        NotFound: there is no such eSIM.
    """
    row = await _lock(connection, esim_id)
    token = open_page_token(links.vault, esim_id, row.page_token)
    if token is not None:
        return token
    if row.page_expires_at is None:
        return await _write(connection, links, esim_id, row.validity_days, actor)
    what = "has expired" if row.has_token else "was withdrawn"
    when: datetime = row.page_expires_at
    raise NoPageLink(
        f"the link of eSIM {esim_id} {what} ({when:%Y-%m-%d}); make another one: tribi esims link {esim_id} --renew"
    )


async def renew_page_token(connection: AsyncConnection, links: PageLinks, esim_id: int, *, actor: str) -> str:
    """
    A new token, valid as long as one of a new order. The one before finds nothing any more.

    Raises:
        NotFound: there is no such eSIM.
    """
    row = await _lock(connection, esim_id)
    return await _write(connection, links, esim_id, row.validity_days, actor)


async def withdraw_page(connection: AsyncConnection, esim_id: int, *, actor: str) -> None:
    """
    The link finds nothing any more, and none is made by itself. Withdrawing again changes nothing.

    Raises:
        NotFound: there is no such eSIM.
    """
    row = await _lock(connection, esim_id)
    if row.has_token or row.page_expires_at is None:
        await connection.execute(_WITHDRAW, {"esim_id": esim_id})
        await record(connection, actor, Tag.ESIM_PAGE_WITHDRAWN, "esim_profiles", esim_id)


async def page_expiry(connection: AsyncConnection, esim_id: int) -> datetime | None:
    """Until when an eSIM's link works, or worked."""
    expiry: datetime | None = await connection.scalar(_EXPIRY, {"esim_id": esim_id})
    return expiry


async def _lock(connection: AsyncConnection, esim_id: int) -> Row[Any]:
    row = (await connection.execute(_LOCK, {"esim_id": esim_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no eSIM {esim_id}")
    return row


async def _write(connection: AsyncConnection, links: PageLinks, esim_id: int, validity_days: int, actor: str) -> str:
    token = _new_token()
    await connection.execute(_WRITE, {"esim_id": esim_id} | links.of(token, esim_id, validity_days))
    await record(connection, actor, Tag.ESIM_PAGE_MADE, "esim_profiles", esim_id)
    return token


def _new_token() -> str:
    return b32encode(secrets.token_bytes(_TOKEN_BYTES)).decode().lower()


def _place(profile_id: int) -> Place:
    return Place(EsimProfile.__tablename__, "page_token", profile_id)
