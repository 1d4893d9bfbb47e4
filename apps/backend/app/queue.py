"""Do this later: a job in the same transaction as what it follows. If that rolls back, there is no job."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from psycopg.pq import TransactionStatus
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import Database, driver_of
from app.direct import Direct

EARLIER_QUEUE = "tribi"
"""Where releases up to this one put every job. Some may still lie there: a job is tried for 26 hours."""

HEARTBEAT_S = 5
"""How often a worker says that it lives."""

STALLED_AFTER_S = 30
"""A worker that has said nothing for so long (database time) is taken for dead, and its jobs are put back."""

LONGEST_JOB_S = 300
"""What has been under way for longer is over: its worker lives, and found no database when it wanted to say how it had ended."""


FINISHED_KEPT_DAYS = 7

OVERDUE_AFTER_S = 300
"""A job that has been due for so long, and that nobody has begun, is late."""


class Job(StrEnum):
    """
    Every job there is. Each stands in a queue of its own name, and a worker looks only into the queues of the jobs that it knows:
    while releases run side by side, the older one's worker leaves a new job to the newer one's. It knows a job by its name alone,
    though: one that needs other arguments gets a new name.
    """

    ESIM_PROVISIONED = "esims.provisioned"
    PROVIDER_EVENT_RECEIVED = "providers.event_received"
    MAIL_WRITTEN = "mails.written"
    SIGN_IN_CODE = "travellers.sign_in_code"


# procrastinate's own SQL function, called on our connection: one round trip, and the job commits with the act.
_ENQUEUE = Direct(
    text(
        "SELECT procrastinate_defer_jobs_v1("
        "ARRAY[ROW(:queue, :task, 0, NULL, NULL, CAST(:args AS jsonb), NULL)::procrastinate_job_to_defer_v1])"
    )
)


# In one statement, so that of several sweeps at once each job is put back by one: who comes second finds its row locked, or
# a living worker on it that has just begun. A worker that is gone from the table has been dead for longer still.
_PUT_BACK = text(
    "SELECT stalled.id, stalled.task_name, procrastinate_retry_job_v2(stalled.id, now(), NULL, NULL, NULL) FROM ("
    "SELECT job.id, job.task_name FROM procrastinate_jobs job WHERE job.status = 'doing' AND NOT EXISTS ("
    "SELECT 1 FROM procrastinate_workers worker JOIN procrastinate_events event ON event.job_id = job.id"
    " WHERE worker.id = job.worker_id AND worker.last_heartbeat > now() - make_interval(secs => :stalled_after_s)"
    " AND event.type = 'started' AND event.at > now() - make_interval(secs => :longest_job_s)"
    ") FOR UPDATE OF job SKIP LOCKED) stalled"
)


# The oldest first: numbers are in the order of time, and what was given up, which stays, is passed over.
_FORGET_FINISHED = text(
    "DELETE FROM procrastinate_jobs job WHERE id = ANY (ARRAY("
    "SELECT id FROM procrastinate_jobs WHERE status = 'succeeded' ORDER BY id LIMIT :batch"
    ")) AND NOT EXISTS (SELECT FROM procrastinate_events event WHERE event.job_id = job.id"
    " AND event.at > now() - make_interval(days => :kept_days))"
)
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class PutBack:
    """A job that nobody does any more; the next free worker does it."""

    job_id: int
    task: str


_COUNT_WORKERS = text(
    "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => :stalled_after_s)"
)
_COUNT_FAILED = text("SELECT count(*) FROM procrastinate_jobs WHERE status = 'failed'")
_COUNT_OVERDUE = text(
    "SELECT count(*) FROM procrastinate_jobs job WHERE status = 'todo' AND coalesce(scheduled_at, ("
    "SELECT max(event.at) FROM procrastinate_events event WHERE event.job_id = job.id"
    ")) < now() - make_interval(secs => :overdue_after_s)"
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How the queue is: living workers (one a process), jobs that were given up, and jobs that are late."""

    workers: int
    failed: int
    overdue: int


async def count_workers(connection: AsyncConnection) -> int:
    """Processes that do background work and have said so lately: every server process, and every `tribi worker`."""
    return await connection.scalar(_COUNT_WORKERS, {"stalled_after_s": STALLED_AFTER_S}) or 0


async def standing_of_jobs(connection: AsyncConnection) -> Standing:
    return Standing(
        workers=await count_workers(connection),
        failed=await connection.scalar(_COUNT_FAILED) or 0,
        overdue=await connection.scalar(_COUNT_OVERDUE, {"overdue_after_s": OVERDUE_AFTER_S}) or 0,
    )


async def enqueue(connection: AsyncConnection, job: Job, **args: Any) -> None:  # noqa: ANN401 - JSON values
    """
    Jobs run at least once: each must bear running twice.

    Raises:
        RuntimeError: the connection is in no transaction, so the job would be there whatever becomes of the act.
    """
    if driver_of(connection).info.transaction_status is TransactionStatus.IDLE:
        raise RuntimeError(f"{job.value}: a job is enqueued in the transaction of the act that it follows")
    await _ENQUEUE.run(connection, {"queue": job.value, "task": job.value, "args": json.dumps(args)})


async def put_back_stalled(connection: AsyncConnection) -> list[PutBack]:
    """
    Puts back what dead workers were doing, and what living ones couldn't bring to an end. A worker that was only asleep may still
    finish its job, which then ran twice.
    """
    rows = await connection.execute(_PUT_BACK, {"stalled_after_s": STALLED_AFTER_S, "longest_job_s": LONGEST_JOB_S})
    return [PutBack(row.id, row.task_name) for row in rows]


async def forget_finished_jobs(db: Database) -> None:
    """
    Jobs that were done more than FINISHED_KEPT_DAYS ago, a thousand at a time. (procrastinate's own way joins and sorts all jobs
    with all of their events.)
    """
    while True:
        async with db.begin() as connection:
            asked = {"batch": _BATCH, "kept_days": FINISHED_KEPT_DAYS}
            if not (await connection.execute(_FORGET_FINISHED, asked)).rowcount:
                return
