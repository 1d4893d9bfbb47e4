"""An answer is kept by the process that heard it until the database takes it, whatever the database or our own code is at."""

import asyncio
from itertools import chain, repeat

import structlog

from app import failpoints
from app.errors import DatabaseUnavailable
from app.failpoints import Point
from app.gate import Lane, lane
from app.house import House
from app.services.esim_providers import SupplierOutcomeUnknown
from app.services.esims.answer import Result, record_answer
from app.services.esims.esim import Esim
from app.services.esims.intent import Intent

_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Between tries while the database is away; the last one repeats."""

_TRIES_AS_IT_CAME = 2
"""How often an error of our own is put up with before an answer is stored as an unknown outcome instead."""

log = structlog.get_logger()


async def keep_answer(house: House, intent: Intent, provider: str, result: Result) -> tuple[Esim, Result]:
    """
    Stores what came of an attempt; returns once that is committed, and not before.

    Returns:
        As `record_answer`. The result is an unknown outcome where it could not be stored as it came: the provider's words are
        on file then, and a person settles it.
    """
    lane.set(Lane.ANSWER)
    pauses_s = chain(_PAUSES_S, repeat(_PAUSES_S[-1]))
    failures = 0
    while True:
        try:
            stored = await record_answer(house.db, house.vault, intent, provider, result)
            failpoints.reached(Point.ANSWER_COMMITTED, intent.order.reference)
        except DatabaseUnavailable as error:
            log.warning("esims.answer_waits_for_database", order_id=intent.order_id, reason=str(error))
            await asyncio.sleep(next(pauses_s))
        except Exception:
            # A bug of ours may not lose what was paid for.
            log.exception("esims.answer_not_storable", order_id=intent.order_id, attempt_id=intent.attempt_id)
            failures += 1
            if failures == _TRIES_AS_IT_CAME:
                result = SupplierOutcomeUnknown("the answer could not be stored as it came", answer=result.answer)
            elif failures > _TRIES_AS_IT_CAME:
                await asyncio.sleep(_PAUSES_S[-1])  # kept while this process lives: it may be all there is of the eSIM
        else:
            return stored
