"""Service keys: made once, shown once, kept as a hash."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Tag, record
from app.direct import Direct
from app.errors import NotFound, TribiError
from app.models import ServiceKey
from app.models.accounts import SCOPES

_PREFIX = "tribi_"
_SECRET_BYTES = 32
_LONGEST_SECRET = 200


class Unauthenticated(TribiError):
    code = "unauthenticated"
    title = "Who are you?"
    meaning = (
        "This needs a valid service key (`Authorization: Bearer tribi_…`; `tribi keys create` makes one), or the session of a "
        "traveller who has signed in and whose session isn't over."
    )
    http_status = 401


class Forbidden(TribiError):
    code = "forbidden"
    title = "You may not do that"
    meaning = (
        "We know who you are, and that isn't enough: the service key lacks the scope for this, the session of a traveller can't do "
        "what a storefront's key can, or a page of another site has sent this with a traveller's cookie."
    )
    http_status = 403


@dataclass(frozen=True, slots=True)
class KeyCaller:
    """Whoever holds a valid service key. It sees all orders."""

    key_id: int
    scopes: frozenset[str]

    owner = None
    """Whose orders it sees: everybody's."""

    @property
    def actor(self) -> str:
        return f"key:{self.key_id}"

    def require(self, scope: str) -> None:
        """
        Raises:
            Forbidden: the key was made without that scope.
        """
        if scope not in self.scopes:
            raise Forbidden(public_message=f"This service key lacks the scope `{scope}`. Use a key made with it.")


@dataclass(frozen=True, slots=True)
class KeyListing:
    """A service key as staff see it: everything but its secret, which nobody can see again."""

    id: int
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


_LISTED = (
    ServiceKey.id,
    ServiceKey.name,
    ServiceKey.scopes,
    ServiceKey.created_at,
    ServiceKey.last_used_at,
    ServiceKey.revoked_at,
)
ASKED_BY = (
    ServiceKey.id.label("key_id"),
    ServiceKey.scopes,
    or_(ServiceKey.last_used_at.is_(None), ServiceKey.last_used_at < func.now() - text("interval '1 minute'")).label(
        "is_use_unnoted"
    ),
)
"""What `asked_by` reads; others ask it together with what the key wants to know, so that it is one question."""
IS_VALID = ServiceKey.revoked_at.is_(None)
_BY_HASH = Direct(select(*ASKED_BY).where(ServiceKey.secret_hash == bindparam("secret_hash"), IS_VALID))
_NOTE_USE = update(ServiceKey).where(ServiceKey.id == bindparam("key_id")).values(last_used_at=func.now())


def _hash(secret: str) -> bytes:
    # 256 random bits: a fast hash is enough, there is nothing to guess
    return hashlib.sha256(secret.encode()).digest()


async def create_key(
    connection: AsyncConnection, name: str, scopes: list[str], *, actor: str
) -> tuple[KeyListing, str]:
    """
    Returns:
        The key and its secret, which is kept nowhere.

    Raises:
        ValueError: no name, or an unknown scope.
    """
    name = name.strip()
    if not name or len(name) > 100 or not name.isprintable():
        raise ValueError("a key needs a name of 1 to 100 printable characters")
    unknown = set(scopes) - set(SCOPES)
    if unknown or not scopes:
        raise ValueError(f"a key needs at least one scope out of: {', '.join(SCOPES)}")
    secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    row = (
        await connection.execute(
            insert(ServiceKey)
            .values(name=name, secret_hash=_hash(secret), scopes=sorted(set(scopes)))
            .returning(*_LISTED)
        )
    ).one()
    await record(connection, actor, Tag.KEY_CREATED, "service_keys", row.id, name=name, scopes=sorted(set(scopes)))
    return _listing(row), secret


async def list_keys(connection: AsyncConnection) -> list[KeyListing]:
    return [_listing(row) for row in await connection.execute(select(*_LISTED).order_by(ServiceKey.id))]


async def revoke_key(connection: AsyncConnection, key_id: int, *, actor: str) -> KeyListing:
    """
    Revokes a key at once, in every process. A revoked key stays revoked.

    Raises:
        NotFound: there is no such key.
    """
    row = (
        await connection.execute(
            update(ServiceKey)
            .where(ServiceKey.id == key_id)
            .values(revoked_at=func.coalesce(ServiceKey.revoked_at, func.now()))
            .returning(*_LISTED)
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no service key {key_id}")
    await record(connection, actor, Tag.KEY_REVOKED, "service_keys", key_id)
    return _listing(row)


async def key_of(connection: AsyncConnection, secret: str) -> KeyCaller:
    """
    Raises:
        Unauthenticated: no key that we know, or a revoked one.
    """
    return await asked_by(connection, await _BY_HASH.one_or_none(connection, {"secret_hash": hash_of(secret)}))


def hash_of(secret: str) -> bytes:
    """
    As it stands in `secret_hash`.

    Raises:
        Unauthenticated: no key looks like it.
    """
    if len(secret) > _LONGEST_SECRET or not secret.isascii():
        raise Unauthenticated
    return _hash(secret)


async def asked_by(connection: AsyncConnection, row: Any) -> KeyCaller:  # noqa: ANN401 - as `Direct` gives it
    """
    The key of a row that holds ASKED_BY; that it was used is noted, once a minute.

    Raises:
        Unauthenticated: there is no row.
    """
    if row is None:
        raise Unauthenticated
    if row.is_use_unnoted:
        await connection.execute(_NOTE_USE, {"key_id": row.key_id})
    return KeyCaller(row.key_id, frozenset(row.scopes))


def _listing(row: Row[int, str, list[str], datetime, datetime | None, datetime | None]) -> KeyListing:
    return KeyListing(row.id, row.name, tuple(row.scopes), row.created_at, row.last_used_at, row.revoked_at)
