"""Sessions of travellers: an opaque token each, kept as a hash, with an idle and an absolute limit by the database's clock."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import SYSTEM, Tag, record
from app.house import House
from app.models import SignInCode, Traveller, TravellerSession
from app.rate_limits import Limit, take
from app.services.accounts.code_hash import hash_code, is_same
from app.services.accounts.codes import hash_of, place_of
from app.services.accounts.keys import Forbidden, Unauthenticated
from app.values.email_address import address_key

TOKEN_PREFIX = "tribi_session_"  # noqa: S105 - what tokens begin with
IDLE = timedelta(days=7)
LONGEST = timedelta(days=30)
MOST_TRIES = 5
TRIES_PER_CLIENT = Limit("tries: client", 100, 3600)

_TOKEN_BYTES = 32
_LONGEST_TOKEN = 100


class CodeRefused(Unauthenticated):
    """One answer to all that can be wrong with a code: nobody learns which it was."""


_WRONG = (
    "This code isn't right, was used before, is older than ten minutes, was tried too often, or was asked for elsewhere. "
    f"After {MOST_TRIES} tries ask for another one."
)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A traveller with a session. Sees what was ordered with their address, and may activate it."""

    traveller_id: int
    session_id: int
    address: str = field(repr=False)

    @property
    def actor(self) -> str:
        return f"traveller:{self.traveller_id}"

    @property
    def owner(self) -> str:
        """Whose orders they see."""
        return self.address

    def require(self, scope: str) -> None:
        """
        Raises:
            Forbidden: it is for storefronts.
        """
        if scope != "esims":
            raise Forbidden(public_message="Only a service key may do that; this is a traveller's session.")


@dataclass(frozen=True, slots=True)
class NewSession:
    token: str = field(repr=False)
    ends_at: datetime


# The try is counted before it is looked at, so that no number of tries at once is more than MOST_TRIES.
_TRY = (
    update(SignInCode)
    .where(
        SignInCode.request_hash == bindparam("request"),
        SignInCode.tries < MOST_TRIES,
        SignInCode.used_at.is_(None),
        SignInCode.expires_at > func.now(),
    )
    .values(tries=SignInCode.tries + 1)
    .returning(SignInCode.id, SignInCode.code_salt, SignInCode.code_hash, SignInCode.address)
)
_USE = (
    update(SignInCode)
    .where(SignInCode.id == bindparam("code_id"), SignInCode.used_at.is_(None), SignInCode.expires_at > func.now())
    .values(used_at=func.now(), code=None)
    .returning(SignInCode.id)
)
_new_traveller = upsert(Traveller).values(address=bindparam("address"))
_TRAVELLER = _new_traveller.on_conflict_do_update(
    index_elements=[Traveller.address], set_={"address": _new_traveller.excluded.address}
).returning(Traveller.id)
_BEGIN = (
    insert(TravellerSession)
    .values(traveller_id=bindparam("traveller_id"), token_hash=bindparam("token_hash"), ends_at=func.now() + LONGEST)
    .returning(TravellerSession.id, TravellerSession.ends_at)
)
_LIVES = and_(TravellerSession.ends_at > func.now(), TravellerSession.last_used_at > func.now() - IDLE)
_BY_TOKEN = (
    select(
        TravellerSession.id,
        TravellerSession.traveller_id,
        Traveller.address,
        (TravellerSession.last_used_at < func.now() - text("interval '1 minute'")).label("is_use_unnoted"),
    )
    .join(Traveller, Traveller.id == TravellerSession.traveller_id)
    .where(TravellerSession.token_hash == bindparam("token_hash"), _LIVES)
)
_NOTE_USE = (
    update(TravellerSession).where(TravellerSession.id == bindparam("session_id")).values(last_used_at=func.now())
)
_END_BY_TOKEN = delete(TravellerSession).where(TravellerSession.token_hash == bindparam("token_hash"))
_END = delete(TravellerSession).where(TravellerSession.id == bindparam("session_id"))
_END_ALL = delete(TravellerSession).where(TravellerSession.traveller_id == bindparam("traveller_id"))
_BY_ADDRESS = select(Traveller.id).where(Traveller.address == bindparam("address"))
_FORGET = delete(TravellerSession).where(
    or_(TravellerSession.ends_at < func.now(), TravellerSession.last_used_at < func.now() - IDLE)
)


async def sign_in(house: House, request: str, code: str, *, client: str, former: str | None) -> NewSession:
    """
    Begins a session, with a token of its own each time.

    Args:
        request: the token that `request_code` returned.
        former: the token of a session that this one takes the place of, None where there is none.

    Raises:
        CodeRefused: the code isn't right, or no longer.
        RateLimited: too many tries by this client.
    """
    async with house.db.begin() as connection:
        await take(connection, house.vault, (TRIES_PER_CLIENT, client))
        tried = (await connection.execute(_TRY, {"request": hash_of(request)})).one_or_none()
    if tried is None:
        raise CodeRefused(public_message=_WRONG)
    is_right = is_same(await hash_code(house.vault, code, tried.code_salt), tried.code_hash)
    if is_right and (begun := await _begin(house, tried.id, tried.address, former)) is not None:
        return begun
    async with house.db.begin() as connection:
        await record(connection, SYSTEM, Tag.CODE_REFUSED, SignInCode.__tablename__, tried.id)
    raise CodeRefused(public_message=_WRONG)


async def _begin(house: House, code_id: int, sealed_address: bytes, former: str | None) -> NewSession | None:
    """None: the code was used by another call, or time has run out."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    async with house.db.begin() as connection:
        if await connection.scalar(_USE, {"code_id": code_id}) is None:
            return None
        address = house.vault.open_text(sealed_address, place_of("address", code_id))
        traveller_id = (await connection.execute(_TRAVELLER, {"address": address})).scalar_one()
        if former is not None:
            await connection.execute(_END_BY_TOKEN, {"token_hash": hash_of(former)})
        new = {"traveller_id": traveller_id, "token_hash": hash_of(token)}
        row = (await connection.execute(_BEGIN, new)).one()
        actor = f"traveller:{traveller_id}"
        await record(connection, actor, Tag.SIGNED_IN, Traveller.__tablename__, traveller_id, session=row.id)
    return NewSession(token, row.ends_at)


async def session_of(connection: AsyncConnection, token: str) -> SignedIn:
    """
    Raises:
        Unauthenticated: it never was a session's token, or the session is over.
    """
    if len(token) > _LONGEST_TOKEN or not token.isascii():
        raise Unauthenticated
    row = (await connection.execute(_BY_TOKEN, {"token_hash": hash_of(token)})).one_or_none()
    if row is None:
        raise Unauthenticated
    if row.is_use_unnoted:
        await connection.execute(_NOTE_USE, {"session_id": row.id})
    return SignedIn(row.traveller_id, row.id, row.address)


async def sign_out(connection: AsyncConnection, who: SignedIn, *, everywhere: bool) -> None:
    """Ends this session, or all of this traveller's: at once, in every process."""
    if everywhere:
        await _end_all(connection, who.traveller_id, who.actor)
        return
    await connection.execute(_END, {"session_id": who.session_id})
    await record(
        connection, who.actor, Tag.SIGNED_OUT, Traveller.__tablename__, who.traveller_id, session=who.session_id
    )


async def sign_out_address(connection: AsyncConnection, address: str, *, actor: str) -> int:
    """
    Ends all sessions of an address, for support.

    Args:
        address: from `read_email`.

    Returns:
        How many there were.
    """
    traveller_id = await connection.scalar(_BY_ADDRESS, {"address": address_key(address)})
    return 0 if traveller_id is None else await _end_all(connection, traveller_id, actor)


async def _end_all(connection: AsyncConnection, traveller_id: int, actor: str) -> int:
    ended = (await connection.execute(_END_ALL, {"traveller_id": traveller_id})).rowcount
    await record(connection, actor, Tag.SIGNED_OUT_EVERYWHERE, Traveller.__tablename__, traveller_id, sessions=ended)
    return ended


async def forget_sessions(connection: AsyncConnection) -> None:
    """Those that are over."""
    await connection.execute(_FORGET)
