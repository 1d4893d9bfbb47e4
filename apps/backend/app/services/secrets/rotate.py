"""Rotation: what other keys have sealed is sealed anew under the first one, while everything goes on.

Rows are read, sealed anew and put back by compare-and-set (`sealed.py`), so that neither an activation nor another rotation at the
same time loses anything; what was changed meanwhile is looked at again. Stopped anywhere, it goes on with what is left.

An old key is forgotten once no process seals with it and nothing is sealed with it, in this order: what a process seals as it ends
is found. A process that slept through that says that its key is in use as soon as it wakes, and a start without it stops again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from app.audit import Tag, record
from app.db import Database
from app.encryption_keys import forget, keys_on_file
from app.house import House
from app.services.secrets.sealed import SEALED, SealedTable, values_by_key
from app.vault import CannotOpen, Keyring

_BATCH = 100
"""Rows; each may hold some megabytes in the worst case."""

_MOST_PASSES = 50
_PAUSE_S = 0.2
_LOOK_AGAIN_S = 0.5


@dataclass(slots=True)
class Progress:
    """`total` is of the beginning: rows that come in meanwhile under another key are done, too."""

    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """One key of ENCRYPTION_KEY, or of the database."""

    key_id: str
    """Its name, in hex."""
    position: int | None
    """1 seals; None: the database needs it, and it isn't given."""
    values: int
    """Sealed with it."""
    in_use: bool
    """A process has it in front, or had it less than a minute ago."""
    may_be_removed: bool


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a run has done, and what is left."""

    sealed_anew: dict[str, int]
    """Rows, by table."""
    busy: int
    """Rows that others were at work on each time."""
    unreadable: tuple[str, ...]
    """Places that no key of ours opens."""
    keys: tuple[KeyStanding, ...]

    @property
    def is_complete(self) -> bool:
        return all(key.may_be_removed or key.position == 1 for key in self.keys)


@dataclass(slots=True)
class _Run:
    db: Database
    keyring: Keyring
    on_progress: Callable[[Progress], None]
    progress: Progress = field(default_factory=Progress)
    sealed_anew: dict[str, int] = field(default_factory=dict)
    unreadable: dict[tuple[str, int], str] = field(default_factory=dict)

    async def through(self) -> int:
        """Seals everything anew. Returns how many rows were busy to the end."""
        left = 0
        for _ in range(_MOST_PASSES):
            left = sum([await self._once_through(sealed) for sealed in SEALED])
            if left == 0:
                break
            await asyncio.sleep(_PAUSE_S)
        return left

    async def _once_through(self, sealed: SealedTable) -> int:
        first, after, left = self.keyring.key_ids[0], 0, 0
        while True:
            async with self.db.read() as connection:
                batch = await sealed.batch(connection, first, after=after, most=_BATCH)
            if not batch:
                return left
            after = batch[-1].id
            rows = [row for one in batch if (row := self._anew(sealed, one)) is not None]
            if not rows:
                continue
            # One statement in autocommit: a rotation that is stopped (Ctrl-Z) holds no row.
            async with self.db.read() as connection:
                swapped = await sealed.swap(connection, rows)
            left += len(rows) - swapped
            self.sealed_anew[sealed.name] = self.sealed_anew.get(sealed.name, 0) + swapped
            self.progress.done += swapped
            self.on_progress(self.progress)

    def _anew(self, sealed: SealedTable, row: Row[Any]) -> dict[str, Any] | None:
        try:
            return sealed.sealed_anew(self.keyring, row)
        except CannotOpen as error:
            self.unreadable[sealed.name, row.id] = f"{sealed.name} {row.id}: {error}"
            return None


async def rotate(
    house: House,
    *,
    actor: str,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_wait: Callable[[], None] = lambda: None,
) -> Rotation:
    """
    Seals everything anew under the first key, and forgets the keys that nothing needs any more.

    Args:
        on_progress: called with each batch.
        on_wait: called once, before it waits for up to a minute to see whether a process still seals with an old key.
    """
    run = _Run(house.db, house.keyring, on_progress)
    first = house.keyring.key_ids[0]
    async with house.db.read() as connection:
        for sealed in SEALED:
            run.progress.total += await sealed.count_of_other_keys(connection, first)
    on_progress(run.progress)
    busy = await run.through()
    forgotten: list[bytes] = []
    if not busy and not run.unreadable:
        await _until_retired(house, on_wait)
        async with house.db.read() as connection:
            idle = [key.key_id for key in await keys_on_file(connection) if key.key_id != first and not key.is_in_use]
        busy = await run.through()  # what the last processes that sealed with those had to say
        async with house.db.begin() as connection:
            needed = await values_by_key(connection)
            forgotten = [key_id for key_id in idle if key_id not in needed and await forget(connection, key_id)]
            for key_id in forgotten:
                await record(connection, actor, Tag.ENCRYPTION_KEY_FORGOTTEN, "encryption_keys", None, key=key_id.hex())
    if run.sealed_anew:
        rows = sum(run.sealed_anew.values())
        async with house.db.begin() as connection:
            await record(
                connection, actor, Tag.ENCRYPTION_KEY_ROTATED, "encryption_keys", None, key=first.hex(), rows=rows
            )
    return Rotation(run.sealed_anew, busy, tuple(run.unreadable.values()), await standing_of_keys(house))


async def _until_retired(house: House, on_wait: Callable[[], None]) -> None:
    """Waits until no old key counts as in use; or until some process has said again of each that still does that it is."""
    first, renewed, seen = house.keyring.key_ids[0], set[bytes](), dict[bytes, datetime | None]()
    while True:
        async with house.db.read() as connection:
            in_use = {key.key_id: key.in_use_until for key in await keys_on_file(connection) if key.is_in_use}
        in_use.pop(first, None)
        renewed |= {key_id for key_id, until in in_use.items() if seen.get(key_id, until) != until}
        if in_use.keys() <= renewed:
            return
        if not seen:
            on_wait()
        seen |= in_use
        await asyncio.sleep(_LOOK_AGAIN_S)


async def standing_of_keys(house: House) -> tuple[KeyStanding, ...]:
    """The keys of ENCRYPTION_KEY in their order, then others that something is sealed with. Reads all sealed values' headers."""
    async with house.db.read() as connection:
        on_file = {key.key_id: key for key in await keys_on_file(connection)}
        values = await values_by_key(connection)
    given = house.keyring.key_ids
    standing = []
    for key_id in dict.fromkeys((*given, *on_file, *values)):
        position = given.index(key_id) + 1 if key_id in given else None
        is_needed = position == 1 or key_id in on_file or key_id in values
        is_in_use = key_id in on_file and on_file[key_id].is_in_use
        standing.append(KeyStanding(key_id.hex(), position, values.get(key_id, 0), is_in_use, not is_needed))
    return tuple(standing)
