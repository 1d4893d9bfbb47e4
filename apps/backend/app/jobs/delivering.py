"""Webhooks go out of every process that does background work. Their queue is the table of deliveries (decision 0013)."""

import structlog

from app.errors import DatabaseUnavailable
from app.house import House
from app.services.webhooks.dispatch import Dispatcher
from app.services.webhooks.line import Line

LOOK_INTERVAL_S = 0.5

log = structlog.get_logger()


async def keep_delivering(house: House) -> None:
    """Until cancelled; then finishes what is under way, which takes no longer than a receiver may take to answer."""
    line = Line(allow_private=house.settings.webhooks_allow_private)
    dispatcher = Dispatcher(house, line)
    try:
        while True:
            try:
                await dispatcher.begin_due()
            except DatabaseUnavailable as away:
                log.warning("webhooks.database_away", reason=str(away))
            except Exception:
                log.exception("webhooks.failed")  # as with the sweep
            await dispatcher.until_room(LOOK_INTERVAL_S)
    finally:
        await dispatcher.finish()
        await line.close()
