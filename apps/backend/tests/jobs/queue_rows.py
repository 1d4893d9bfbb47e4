"""The queue's rows, put there and looked at without the product."""

import json
from typing import Any

from sqlalchemy import text

from app.db import Database

_DEFER = text(
    "SELECT unnest(procrastinate_defer_jobs_v1(ARRAY["
    "ROW(:queue, :task, 0, NULL, NULL, CAST(:args AS jsonb), NULL)::procrastinate_job_to_defer_v1]))"
)
_END = text("UPDATE procrastinate_jobs SET status = CAST(:status AS procrastinate_job_status) WHERE id = :id")
_AGE = text("UPDATE procrastinate_events SET at = at - make_interval(days => :days) WHERE job_id = :id")
_STATES = text("SELECT id, status::text FROM procrastinate_jobs")


async def deferred(db: Database, task: str, args: dict[str, Any], *, queue: str | None = None) -> int:
    """The id of a job that waits to be done, in the queue of its name unless another is told."""
    async with db.begin() as connection:
        values = {"queue": queue or task, "task": task, "args": json.dumps(args)}
        return int(await connection.scalar(_DEFER, values) or 0)


async def an_old_job(db: Database, status: str, *, days: int = 8) -> int:
    """The id of one that ended so many days ago."""
    job_id = await deferred(db, "esims.provisioned", {"esim_id": 0})
    async with db.begin() as connection:
        await connection.execute(_END, {"status": status, "id": job_id})
        await connection.execute(_AGE, {"days": days, "id": job_id})
    return job_id


async def job_states(db: Database) -> dict[int, str]:
    """Status by id."""
    async with db.read() as connection:
        return {row.id: row.status for row in await connection.execute(_STATES)}
