"""
The stored form of a sign-in code. Six digits are guessed in a moment from any quick hash (OWASP ASVS 6.5.2), so it is scrypt
(RFC 7914), over an HMAC with the installation's fingerprint key: who has the database alone can't guess at all.
"""

import asyncio
import hashlib
import hmac
import secrets
from concurrent.futures import ThreadPoolExecutor

from app.errors import RateLimited
from app.vault import Vault

SALT_BYTES = 16
HASH_BYTES = 32
COST = 2**15
"""scrypt's N; with r = 8 and p = 1: 32 MiB and some 0.1 s."""

_AT_ONCE = 2
_MOST_WAITING = 50
"""More would wait for longer than somebody at a telephone does, and a flood may not take the processors from everybody else."""

# Threads of their own: hashing lets go of the interpreter, and nothing else may queue behind it.
_threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="code-hash")
_waiting = 0


def new_salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES)


async def hash_code(vault: Vault, code: str, salt: bytes) -> bytes:
    """
    Off the event loop; to be called with no transaction and no connection held.

    Raises:
        RateLimited: too many are waiting for it in this process.
    """
    global _waiting
    if _waiting >= _MOST_WAITING:
        raise RateLimited(retry_after_s=2)
    _waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, _hash, vault.fingerprint_key, code, salt)
    finally:
        _waiting -= 1


def is_same(one: bytes, other: bytes) -> bool:
    """In constant time."""
    return hmac.compare_digest(one, other)


def _hash(key: bytes, code: str, salt: bytes) -> bytes:
    peppered = hmac.digest(key, f"sign-in code:{code}".encode(), "sha256")
    return hashlib.scrypt(peppered, salt=salt, n=COST, r=8, p=1, maxmem=2**26, dklen=HASH_BYTES)
