"""The background work of a process, each part kept going whatever happens to the database: queue, recovery sweep, replays."""

import asyncio

import structlog

from app.errors import DatabaseUnavailable
from app.house import House
from app.jobs.queue_app import build_queue_app, known_queues
from app.queue import HEARTBEAT_S, STALLED_AFTER_S, put_back_stalled
from app.services.esims.activate import Activations
from app.services.esims.recover import SWEEP_INTERVAL_S, sweep
from app.services.esims.replay import REPLAY_INTERVAL_S

POLLING_INTERVAL_S = 0.5
_CONCURRENCY = 4
_FINISH_WITHIN_S = 20
_START_AGAIN_AFTER_S = 2

log = structlog.get_logger()


async def keep_sweeping(house: House) -> None:
    """The recovery sweep of attempts and jobs, and the word that our key is in use: now and every five seconds, until cancelled."""
    while True:
        try:
            await sweep(house.db)
            await house.look_back()
            await _put_back_jobs(house)
            await house.keep_key()
        except DatabaseUnavailable as away:
            log.warning("sweep.database_away", reason=str(away))
        except Exception:
            # The sweep is what finds everything else that went wrong: it may not end.
            log.exception("sweep.failed")
        await asyncio.sleep(SWEEP_INTERVAL_S)


async def _put_back_jobs(house: House) -> None:
    async with house.db.begin() as connection:
        found = await put_back_stalled(connection)
    for job in found:
        log.warning("queue.stalled_job_put_back", job_id=job.job_id, task=job.task)


async def keep_replaying(activations: Activations) -> None:
    """Sends unknown orders again that are due, every five seconds, until cancelled; `activations` finishes what it began."""
    while True:
        try:
            await activations.replay_due()
        except DatabaseUnavailable as away:
            log.warning("replays.database_away", reason=str(away))
        except Exception:
            log.exception("replays.failed")  # as with the sweep
        await asyncio.sleep(REPLAY_INTERVAL_S)


async def keep_working(house: House) -> None:
    """Works on the queue until cancelled; then finishes the jobs at hand."""
    while True:
        try:
            async with build_queue_app(house).open_async() as queue_app:
                await queue_app.run_worker_async(
                    queues=known_queues(queue_app),
                    concurrency=_CONCURRENCY,
                    install_signal_handlers=False,
                    listen_notify=False,
                    fetch_job_polling_interval=POLLING_INTERVAL_S,
                    shutdown_graceful_timeout=_FINISH_WITHIN_S,
                    update_heartbeat_interval=HEARTBEAT_S,
                    stalled_worker_timeout=STALLED_AFTER_S,
                )
        except Exception as error:  # noqa: BLE001 - whatever it was: without its worker the queue stands still
            log.warning("worker.interrupted", reason=f"{type(error).__name__}: {error}")
            this = asyncio.current_task()
            if this is not None and this.cancelling():
                return  # asked to end, the worker found no database to take its leave of
        await asyncio.sleep(_START_AGAIN_AFTER_S)
