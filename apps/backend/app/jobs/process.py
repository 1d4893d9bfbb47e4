"""`tribi worker`: a process for background work alone."""

import asyncio
import signal

import structlog

from app.house import open_house
from app.jobs.delivering import keep_delivering
from app.jobs.running import keep_sweeping, keep_working
from app.logs import configure_logging
from app.services.esims.spend import warn_of_live_orders
from app.settings import load_settings

log = structlog.get_logger()


def work_until_asked_to_end() -> int:
    """Works until SIGTERM or SIGINT, then finishes the jobs at hand. Returns the exit status."""
    settings = load_settings()
    configure_logging(level=settings.log_level, known_secrets=settings.secrets())

    async def work() -> None:
        asked_to_end = asyncio.Event()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signal_number, asked_to_end.set)
        async with open_house(settings) as house:
            warn_of_live_orders(settings)
            log.info("worker.started")
            background = [asyncio.create_task(keep(house)) for keep in (keep_sweeping, keep_working, keep_delivering)]
            await asked_to_end.wait()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            log.info("worker.stopped")

    asyncio.run(work())
    return 0
