"""All sealed columns there are, by the mark that their declaration gives them, and what is asked and written of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Row,
    Select,
    Table,
    Update,
    bindparam,
    column,
    func,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import KeyedColumnElement

from app import models
from app.vault import HEADER_BYTES, KEY_ID_BYTES, Keyring, Place


def key_id_in(sealed: ColumnElement[Any]) -> ColumnElement[bytes]:
    """Which key a value was sealed with, as the database reads it off."""
    return func.substr(sealed, 2, KEY_ID_BYTES, type_=LargeBinary)


def _header_of(sealed: ColumnElement[Any]) -> ColumnElement[bytes]:
    # Its nonce makes it the name of this very sealing: who finds it unchanged knows that the value is.
    return func.substr(sealed, 1, HEADER_BYTES, type_=LargeBinary)


@dataclass(frozen=True)
class SealedTable:
    """A table with sealed columns. Its rows are numbered by `id`."""

    table: Table

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def columns(self) -> list[KeyedColumnElement[Any]]:
        return [one for one in self.table.columns if one.info.get("is_sealed")]

    def _is_of_another_key(self) -> ColumnElement[bool]:
        first = bindparam("first", type_=LargeBinary)
        return or_(*(key_id_in(one) != first for one in self.columns))

    @cached_property
    def _batch(self) -> Select[Any]:
        return (
            select(self.table.c.id, *self.columns)
            .where(self.table.c.id > bindparam("after", type_=BigInteger), self._is_of_another_key())
            .order_by(self.table.c.id)
            .limit(bindparam("most"))
        )

    @cached_property
    def _swap(self) -> Update:
        """
        Compare-and-set, in one statement that waits for nobody: rows that somebody has changed since, or is at work on, stay.
        """
        ids = bindparam("ids", type_=ARRAY(BigInteger))
        given: list[Any] = [ids]
        named: list[Any] = [column("id", BigInteger)]
        for one in self.columns:
            for what in ("old", "new"):
                given.append(bindparam(f"{what}_{one.name}", type_=ARRAY(LargeBinary)))
                named.append(column(f"{what}_{one.name}", LargeBinary))
        to = func.unnest(*given).table_valued(*named, name="swap").render_derived()
        # "NO KEY": no foreign key looks at a sealed column
        free = (
            select(self.table.c.id)
            .where(self.table.c.id == ids.any_())
            .with_for_update(skip_locked=True, key_share=True)
            .cte("free")
        )
        return (
            update(self.table)
            .where(
                self.table.c.id == to.c.id,
                self.table.c.id == free.c.id,
                *(_header_of(one).is_not_distinct_from(to.c[f"old_{one.name}"]) for one in self.columns),
            )
            .values({one: to.c[f"new_{one.name}"] for one in self.columns})
        )

    async def count_of_other_keys(self, connection: AsyncConnection, first: bytes) -> int:
        """How many rows hold something that another key than the first has sealed."""
        query = select(func.count()).select_from(self.table).where(self._is_of_another_key())
        return await connection.scalar(query, {"first": first}) or 0

    async def batch(self, connection: AsyncConnection, first: bytes, *, after: int, most: int) -> Sequence[Row[Any]]:
        """The next rows with something that another key than the first has sealed, in the order of their ids."""
        found = await connection.execute(self._batch, {"first": first, "after": after, "most": most})
        rows: Sequence[Row[Any]] = found.all()
        return rows

    def sealed_anew(self, keyring: Keyring, row: Row[Any]) -> dict[str, Any]:
        """
        A row's values under the first key; for the same places.

        Raises:
            CannotOpen: one of them doesn't open.
        """
        values: dict[str, Any] = {"ids": row.id}
        for one in self.columns:
            sealed, place = getattr(row, one.name), Place(self.name, one.name, row.id)
            values[f"old_{one.name}"] = None if sealed is None else sealed[:HEADER_BYTES]
            values[f"new_{one.name}"] = None if sealed is None else keyring.seal(keyring.open(sealed, place), place)
        return values

    async def swap(self, connection: AsyncConnection, rows: list[dict[str, Any]]) -> int:
        """Writes rows that were sealed anew. Returns how many of them it could."""
        swapped = await connection.execute(self._swap, {name: [row[name] for row in rows] for name in rows[0]})
        return swapped.rowcount


SEALED = tuple(
    SealedTable(table)
    for table in models.Base.metadata.sorted_tables
    if any(one.info.get("is_sealed") for one in table.columns)
)


async def values_by_key(connection: AsyncConnection) -> dict[bytes, int]:
    """How many sealed values there are, by the key that has sealed them. Reads all of the tables."""
    ids = union_all(
        *(
            select(key_id_in(one).label("key_id")).select_from(sealed.table).where(one.is_not(None))
            for sealed in SEALED
            for one in sealed.columns
        )
    ).subquery()
    counted = select(ids.c.key_id, func.count()).group_by(ids.c.key_id)
    return {row[0]: row[1] for row in await connection.execute(counted)}
