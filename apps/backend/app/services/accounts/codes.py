"""A traveller asks for a six-digit code. Whether the address has orders is not looked at here: that is the job's, unseen."""

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import bindparam, delete, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.house import House
from app.models import SignInCode
from app.queue import Job, enqueue
from app.rate_limits import Limit, take
from app.services.accounts.code_hash import hash_code, new_salt
from app.traveller import Language
from app.values.email_address import address_key
from app.vault import Place

LIFE = timedelta(minutes=10)
REQUEST_PREFIX = "tribi_request_"

PER_ADDRESS = (Limit("codes: address, hour", 5, 3600), Limit("codes: address, day", 10, 24 * 3600))
PER_CLIENT = Limit("codes: client", 60, 3600)
"""An airport's travellers may share one address of the network."""

_UNDETERMINED = "und"
"""The tag for a language that isn't known (ISO 639-2)."""

_DIGITS = 6
_TOKEN_BYTES = 32

_NEXT_ID = select(func.nextval(text("'sign_in_codes_id_seq'")))
_FILE = insert(SignInCode).values(
    id=bindparam("code_id"),
    request_hash=bindparam("request_hash"),
    code_salt=bindparam("code_salt"),
    code_hash=bindparam("code_hash"),
    address=bindparam("address"),
    code=bindparam("code"),
    language=bindparam("language"),
    expires_at=func.now() + LIFE,
)
_FORGET = delete(SignInCode).where(SignInCode.expires_at < func.now())


def place_of(column: str, code_id: int) -> Place:
    """Where a sealed column of a code stands."""
    return Place(SignInCode.__tablename__, column, code_id)


def hash_of(token: str) -> bytes:
    # 256 random bits: a fast hash is enough, there is nothing to guess
    return hashlib.sha256(token.encode()).digest()


def new_code() -> str:
    return f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}}"


async def request_code(house: House, address: str, *, client: str, language: Language | None) -> str:
    """
    Has a code sent to an address, if it has orders.

    Args:
        address: from `read_email`.
        client: whom to count it for besides the address (`client_of`).
        language: of the message; None: that of the newest order, which the job will know.

    Returns:
        The request token, which has to come back with the code.

    Raises:
        RateLimited: too many codes for this address, or from this client.
    """
    key = address_key(address)
    async with house.db.begin() as connection:
        await take(connection, house.vault, *((limit, key) for limit in PER_ADDRESS), (PER_CLIENT, client))
    request = REQUEST_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    code = new_code()
    salt = new_salt()
    hashed = await hash_code(house.vault, code, salt)
    async with house.db.begin() as connection:
        code_id = (await connection.execute(_NEXT_ID)).scalar_one()
        await connection.execute(
            _FILE,
            {
                "code_id": code_id,
                "request_hash": hash_of(request),
                "code_salt": salt,
                "code_hash": hashed,
                "address": house.vault.seal_text(key, place_of("address", code_id)),
                "code": house.vault.seal_text(code, place_of("code", code_id)),
                "language": language or _UNDETERMINED,
            },
        )
        await enqueue(connection, Job.SIGN_IN_CODE, code_id=code_id)
    return request


async def forget_codes(connection: AsyncConnection) -> None:
    """Those that can't be used any more."""
    await connection.execute(_FORGET)
