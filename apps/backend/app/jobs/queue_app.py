"""The queue's application: which function does which job, and what is done by the clock.

Every job may run twice (its worker can be killed at any instant), so each is written to bear that. What a killed worker left
is put back by the recovery sweep of any process (`running.py`), within STALLED_AFTER_S and a sweep's interval.
"""

import logging

import procrastinate
import structlog
from procrastinate.jobs import Job as QueuedJob

from app import metrics
from app.connecting import connect_arguments
from app.house import House
from app.queue import EARLIER_QUEUE, Job, forget_finished_jobs
from app.services.accounts.forget import forget_what_is_over
from app.services.accounts.send_code import send_code
from app.services.esims.term import note_expiring
from app.services.messages.announce import announce_provisioned
from app.services.messages.deliver import deliver
from app.services.news.apply import apply_event, catch_up, catch_up_all
from app.services.webhooks.deliveries import forget_old_events
from app.services.webhooks.endpoints import forget_former_secrets

MOST_RETRIES = 36
_LONGEST_PAUSE_S = 3600
_AWAY_AFTER_S = 5
"""How long the worker waits for a connection. Then it begins anew, with a pool that doesn't back off from earlier failures."""

_TIDY = "queue.tidy"
_CATCH_UP = "providers.events_catch_up"
_EXPIRING = "esims.expiring"

log = structlog.get_logger()


class _OnlyWhatWentWrong(logging.Filter):
    """
    Of the queue's own events. That a job begins, and that it ended well, would be two lines more for each purchase; it stands in
    `procrastinate_events`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "action", None) not in _AS_IT_SHOULD_BE


_AS_IT_SHOULD_BE = frozenset(("start_job", "job_success"))
# A worker has a logger of its name, which is "worker", and uses that of all as well; a filter isn't handed down.
for _name in ("procrastinate.worker", "procrastinate.worker.worker"):
    logging.getLogger(_name).addFilter(_OnlyWhatWentWrong())


class _UntilTomorrow(procrastinate.BaseRetryStrategy):
    """Twice the pause each time, up to an hour: 26 hours in all, so that a mail server that is away for a day costs nothing."""

    def get_retry_decision(self, *, exception: BaseException, job: QueuedJob) -> procrastinate.RetryDecision | None:
        if job.attempts >= MOST_RETRIES:
            metrics.JOBS_FAILED.labels(job.task_name).inc()
            # Ids alone: what a job's error says may be the words of somebody else's server.
            log.error(
                "queue.job_failed",
                job_id=job.id,
                task=job.task_name,
                args=job.task_kwargs,
                error=type(exception).__name__,
            )
            return None
        return procrastinate.RetryDecision(retry_in={"seconds": min(2 ** (job.attempts + 1), _LONGEST_PAUSE_S)})


def known_queues(app: procrastinate.App) -> list[str]:
    """Those whose jobs this release can do."""
    return sorted({EARLIER_QUEUE} | {task.queue for task in app.tasks.values()})


def build_queue_app(house: House) -> procrastinate.App:
    """
    The queue on the house's database. It keeps two connections of its own, polls (LISTEN belongs to a session, which PgBouncer's
    transaction mode takes away) and prepares no statements for the same reason.
    """
    connector = procrastinate.PsycopgConnector(
        min_size=1,
        max_size=2,
        timeout=_AWAY_AFTER_S,
        kwargs=connect_arguments(house.db.url, "tribi-jobs"),
    )
    app = procrastinate.App(connector=connector)
    retry = _UntilTomorrow()

    @app.task(name=Job.ESIM_PROVISIONED.value, queue=Job.ESIM_PROVISIONED.value, retry=retry)
    async def esim_provisioned(esim_id: int) -> None:
        try:
            await catch_up(house, esim_id)  # what came before the answer to the purchase
        finally:
            await announce_provisioned(house, esim_id)

    @app.task(name=Job.PROVIDER_EVENT_RECEIVED.value, queue=Job.PROVIDER_EVENT_RECEIVED.value, retry=retry)
    async def provider_event_received(event_id: int) -> None:
        await apply_event(house, event_id)

    @app.periodic(cron="*/5 * * * *")
    @app.task(name=_CATCH_UP, queue=_CATCH_UP, retry=retry)
    async def events_catch_up(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        """What the job above missed: while releases run side by side, an older worker does it."""
        await catch_up_all(house)

    @app.task(name=Job.MAIL_WRITTEN.value, queue=Job.MAIL_WRITTEN.value, retry=retry)
    async def mail_written(mail_id: int) -> None:
        await deliver(house, mail_id)

    @app.periodic(cron="*/10 * * * *")
    @app.task(name=_EXPIRING, queue=_EXPIRING, retry=retry)
    async def expiring(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        await note_expiring(house.db)

    @app.task(name=Job.SIGN_IN_CODE.value, queue=Job.SIGN_IN_CODE.value, retry=retry)
    async def sign_in_code(code_id: int) -> None:
        await send_code(house, code_id)

    @app.periodic(cron="17 3 * * *")
    @app.task(name=_TIDY, queue=_TIDY, retry=retry)
    async def tidy(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        """
        Finished jobs are kept for a week, failed ones for good: somebody must look at those. What was told is kept for 30 days,
        and what nobody signs in with any more isn't.
        """
        await forget_finished_jobs(house.db)
        await forget_old_events(house.db)
        await forget_former_secrets(house.db)
        await forget_what_is_over(house)

    return app
