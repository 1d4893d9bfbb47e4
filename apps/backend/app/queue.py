"""Do this later: a job in the same transaction as what it follows. If that rolls back, there is no job."""

import json
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

QUEUE = "tribi"


class Job(StrEnum):
    """Every job there is, by the name under which it stands in the queue."""

    ESIM_PROVISIONED = "esims.provisioned"


# procrastinate's own SQL function, called on our connection: one round trip, and the job commits with the act.
_ENQUEUE = text(
    "SELECT procrastinate_defer_jobs_v1("
    "ARRAY[ROW(:queue, :task, 0, NULL, NULL, CAST(:args AS jsonb), NULL)::procrastinate_job_to_defer_v1])"
)


async def enqueue(connection: AsyncConnection, job: Job, **args: Any) -> None:  # noqa: ANN401 - JSON values
    """Jobs run at least once: each must bear running twice."""
    await connection.execute(_ENQUEUE, {"queue": QUEUE, "task": job.value, "args": json.dumps(args)})
