"""Who is asking: a service key, or a traveller with a session."""

from sqlalchemy.ext.asyncio import AsyncConnection

from app.rate_limits import Limit, take
from app.services.accounts.keys import KeyCaller, Unauthenticated, key_of
from app.services.accounts.sessions import TOKEN_PREFIX, SignedIn, session_of
from app.vault import Vault

Caller = KeyCaller | SignedIn


def bearer_of(authorization: str | None) -> str | None:
    """The secret in an `Authorization` header (RFC 6750 section 2.1); None for another scheme, or nothing."""
    scheme, _, secret = (authorization or "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


async def authenticate(connection: AsyncConnection, vault: Vault, secret: str | None, *, key_rate_limit: int) -> Caller:
    """
    Args:
        secret: a service key or a session's token; None where there is none.
        key_rate_limit: requests a second that a key may send; 0: as many as it likes, and nothing is counted.

    Raises:
        Unauthenticated: nobody that we know.
        RateLimited: a key sends more.
    """
    if secret is None:
        raise Unauthenticated
    if secret.startswith(TOKEN_PREFIX):
        return await session_of(connection, secret)
    caller = await key_of(connection, secret)
    if key_rate_limit:
        await take(connection, vault, (Limit("requests: key", key_rate_limit, 1), str(caller.key_id)))
    return caller
