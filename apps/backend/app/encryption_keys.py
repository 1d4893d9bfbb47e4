"""Which encryption keys this database needs: each that seals, or that something is sealed with.

A start without one of them stops. Each process says of its first key, with which it seals, that it is in use, at its start and as
long as it runs; so a key that no process uses any more can be told from one with which values may be sealed at any moment.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, bindparam, delete, false, func, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import EncryptionKey

IN_USE_S = 60
"""For so long a key counts as in use after a process has said so last (database time)."""

_SAY_AGAIN_S = 10
"""After so long a process says it again; it looks every few seconds."""


@dataclass(frozen=True, slots=True)
class KeyOnFile:
    """A key that a start needs, by its name."""

    key_id: bytes
    in_use_until: datetime | None
    """None: no process has ever said that it uses it (those of an earlier release don't)."""
    is_in_use: bool


def _from_now(name: str) -> ColumnElement[datetime]:
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam(name))


_key = EncryptionKey.key_id == bindparam("id_of_key")
_ON_FILE = select(
    EncryptionKey.key_id,
    EncryptionKey.in_use_until,
    func.coalesce(EncryptionKey.in_use_until >= func.now(), false()),
).order_by(EncryptionKey.created_at, EncryptionKey.key_id)
_IS_SAID = select(func.coalesce(EncryptionKey.in_use_until > _from_now("for_long_s"), false())).where(_key)
_fresh = upsert(EncryptionKey).values(key_id=bindparam("id_of_key"), in_use_until=_from_now("for_s"))
_SAY = _fresh.on_conflict_do_update(index_elements=["key_id"], set_={"in_use_until": _fresh.excluded.in_use_until})
_FORGET = delete(EncryptionKey).where(
    _key, or_(EncryptionKey.in_use_until.is_(None), EncryptionKey.in_use_until < func.now())
)


async def keys_on_file(connection: AsyncConnection) -> list[KeyOnFile]:
    return [KeyOnFile(*row) for row in await connection.execute(_ON_FILE)]


async def say_in_use(connection: AsyncConnection, key_id: bytes) -> bool:
    """
    Puts on file that this process seals with a key. Costs a look, unless it is time to say it again.

    Returns:
        False if the key was not on file.
    """
    asked = {"id_of_key": key_id, "for_long_s": IN_USE_S - _SAY_AGAIN_S}
    is_said = (await connection.execute(_IS_SAID, asked)).scalar_one_or_none()
    if not is_said:
        await connection.execute(_SAY, {"id_of_key": key_id, "for_s": IN_USE_S})
    return is_said is not None


async def forget(connection: AsyncConnection, key_id: bytes) -> bool:
    """From the commit on a start may go without this key. Returns False where it isn't on file, or a process uses it."""
    return bool((await connection.execute(_FORGET, {"id_of_key": key_id})).rowcount)
