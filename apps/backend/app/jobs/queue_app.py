"""The queue's application: which function does which job, and what is done by the clock.

Every job may run twice (its worker can be killed at any instant), so each is written to bear that.
"""

from datetime import timedelta

import procrastinate
import structlog
from procrastinate import builtin_tasks

from app.house import House
from app.queue import QUEUE, Job
from app.services.esims.announce import announce_provisioned

_STALLED_AFTER = timedelta(minutes=5)
_FINISHED_JOBS_KEPT_HOURS = 7 * 24

log = structlog.get_logger()


def build_queue_app(house: House) -> procrastinate.App:
    """
    The queue on the house's database. It keeps two connections of its own, polls (LISTEN belongs to a session, which PgBouncer's
    transaction mode takes away) and prepares no statements for the same reason.
    """
    connector = procrastinate.PsycopgConnector(
        conninfo=house.db.url,
        min_size=1,
        max_size=2,
        kwargs={"prepare_threshold": None, "connect_timeout": 5, "application_name": "tribi-jobs"},
    )
    app = procrastinate.App(connector=connector)
    retry = procrastinate.RetryStrategy(max_attempts=12, exponential_wait=2)

    @app.task(name=Job.ESIM_PROVISIONED.value, queue=QUEUE, retry=retry)
    async def esim_provisioned(esim_id: int) -> None:
        await announce_provisioned(house, esim_id)

    @app.periodic(cron="* * * * *")
    @app.task(name="queue.retry_stalled", queue=QUEUE, queueing_lock="queue.retry_stalled", pass_context=True)
    async def retry_stalled(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        """Jobs whose worker was killed are put back."""
        manager = context.app.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=_STALLED_AFTER.total_seconds()):
            log.warning("queue.stalled_job_put_back", job_id=job.id, task=job.task_name)
            await manager.retry_job(job)

    @app.periodic(cron="17 3 * * *")
    @app.task(name="queue.tidy", queue=QUEUE, queueing_lock="queue.tidy", pass_context=True)
    async def tidy(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        """Finished jobs are kept for a week, failed ones for good: somebody must look at those."""
        await builtin_tasks.remove_old_jobs(context, max_hours=_FINISHED_JOBS_KEPT_HOURS, remove_failed=False)

    return app
