"""Waiting for attempts that other processes make: one query at a time for all of them, shared by all who wait here."""

import asyncio
from dataclasses import dataclass

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from app.db import Database
from app.errors import DatabaseUnavailable
from app.models import ProvisioningAttempt

POLL_INTERVAL_S = 0.25

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Closed:
    """How an attempt ended: `outcome` as in `ATTEMPT_OUTCOMES`, `problem` a problem type or None."""

    outcome: str
    problem: str | None
    retry_after_s: int | None


_CLOSED = select(
    ProvisioningAttempt.id, ProvisioningAttempt.outcome, ProvisioningAttempt.problem, ProvisioningAttempt.retry_after_s
).where(
    ProvisioningAttempt.id == bindparam("ids", type_=ARRAY(BigInteger)).any_(),
    ProvisioningAttempt.outcome.is_not(None),
)


class Watch:
    """Polls while there is somebody waiting, and not otherwise."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: dict[int, asyncio.Future[Closed]] = {}
        self._poller: asyncio.Task[None] | None = None

    async def until_closed(self, attempt_id: int) -> Closed:
        """Waits without an end of its own: the recovery sweep closes every attempt sooner or later."""
        future = self._waiting.setdefault(attempt_id, asyncio.get_running_loop().create_future())
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        return await asyncio.shield(future)

    async def _poll(self) -> None:
        while self._waiting:
            try:
                async with self._db.read() as connection:
                    rows = (await connection.execute(_CLOSED, {"ids": list(self._waiting)})).all()
            except DatabaseUnavailable:
                rows = []  # those who wait have deadlines of their own
            except Exception:
                rows = []  # without its poller an order would be under way for ever in this process
                log.exception("esims.watch_failed")
            for row in rows:
                self._waiting.pop(row.id).set_result(Closed(row.outcome, row.problem, row.retry_after_s))
            await asyncio.sleep(POLL_INTERVAL_S)

    async def close(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
