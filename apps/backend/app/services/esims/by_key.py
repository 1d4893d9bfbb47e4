"""What service keys ask for most, each in one question to the database: who is asking, and what it is about.

All that are asked at the same time are one question, too (`Gathering`).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, LargeBinary, and_, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from app.direct import Direct
from app.errors import NotFound
from app.gate import Lane
from app.gathering import Gathering
from app.house import House
from app.models import EsimProfile, Order, ServiceKey
from app.services.accounts.keys import ASKED_BY, IS_VALID, KeyCaller, Unauthenticated, asked_by, hash_of
from app.services.esims.esim import COLUMNS, Esim, esim_of
from app.services.esims.intent import STANDING, Looked

_asked = (
    func.unnest(bindparam("secret_hashes", type_=ARRAY(LargeBinary)), bindparam("ids", type_=ARRAY(BigInteger)))
    .table_valued(column("secret_hash", LargeBinary), column("id", BigInteger), with_ordinality="place", name="asked")
    .render_derived()
)


_ask_keys = _asked.outerjoin(ServiceKey.__table__, and_(ServiceKey.secret_hash == _asked.c.secret_hash, IS_VALID))
_orders_esims = Order.__table__.join(EsimProfile.__table__, EsimProfile.order_id == Order.id)

# A row for each question, in whatever order: `key_id` is null where there is no such key, `id` where there is nothing of that id.
_ESIM = Direct(
    select(_asked.c.place, *ASKED_BY, *COLUMNS).select_from(
        _ask_keys.outerjoin(EsimProfile.__table__, EsimProfile.id == _asked.c.id)
    )
)
_STANDING = Direct(
    select(
        _asked.c.place, *ASKED_BY, *STANDING, *(one for one in COLUMNS if one is not EsimProfile.status)
    ).select_from(_ask_keys.outerjoin(_orders_esims, Order.id == _asked.c.id))
)


class _Question(NamedTuple):
    secret_hash: bytes
    id: int


class ByKey:
    """Of one process."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._esims = Gathering(partial(self._ask, _ESIM), queue_in=Lane.LOOK)
        self._standings = Gathering(partial(self._ask, _STANDING), queue_in=Lane.REST)

    async def esim(self, secret: str, esim_id: int) -> Esim:
        """
        Raises:
            Unauthenticated: no key has that secret.
            NotFound: there is no such eSIM.
            DatabaseUnavailable: it is away.
        """
        _, row = await self._esims.answer_to(_Question(hash_of(secret), esim_id))
        if row.id is None:
            raise NotFound(f"there is no eSIM {esim_id}")
        return esim_of(row, self._house.vault)

    async def standing(self, secret: str, order_id: int) -> tuple[KeyCaller, Esim | Looked]:
        """
        How an order stands that a key wants to activate, without locking it.

        Returns:
            The eSIM once it is provisioned. Else what was seen, without a judgement: what this process has under way for the order
            goes before it.

        Raises:
            Unauthenticated, Forbidden: no key has that secret, or it may not activate.
            NotFound: there is no such order.
            DatabaseUnavailable: it is away.
        """
        caller, row = await self._standings.answer_to(_Question(hash_of(secret), order_id))
        caller.require("esims")
        if row.id is None:
            raise NotFound
        if row.status == "provisioned":
            return caller, esim_of(row, self._house.vault)
        return caller, Looked(row.order_status, row.status, row.attempt_id)

    async def _ask(
        self, statement: Direct, asked: Sequence[_Question]
    ) -> list[tuple[KeyCaller, Any] | Exception]:  # Any: a row, as `Direct` gives it
        values = {"secret_hashes": [one.secret_hash for one in asked], "ids": [one.id for one in asked]}
        async with self._house.db.read() as connection:
            rows = await statement.all(connection, values)
            known = {row.key_id: row for row in rows if row.key_id is not None}
            callers = {key_id: await asked_by(connection, row) for key_id, row in known.items()}
        answers: list[tuple[KeyCaller, Any] | Exception] = [Unauthenticated() for _ in asked]
        for row in rows:
            if row.key_id is not None:
                answers[row.place - 1] = callers[row.key_id], row
        return answers
