"""When an event is sent again that wasn't taken: ten attempts in three days, each a little late and none early.

Source: the schedule that Standard Webhooks recommends (specification, "Deliverability and reliability"). Jitter only adds, so
that ten attempts reach over 75 hours at least, and what piled up while a receiver was away doesn't come back all at once.
"""

import random

_MINUTE, _HOUR = 60, 3600
PAUSES_S = (5, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR)
"""After the first attempt, the second, …; 75 h 35 min together."""

MOST_ATTEMPTS = len(PAUSES_S) + 1
JITTER = 0.1
"""A pause may be longer by this part of itself."""


def pause_after(attempts: int) -> float | None:
    """
    Args:
        attempts: how many have failed, 1 or more.

    Returns:
        Seconds until the next one, None where that was the last.
    """
    if attempts >= MOST_ATTEMPTS:
        return None
    return PAUSES_S[attempts - 1] * random.uniform(1, 1 + JITTER)  # noqa: S311 - so that not all come back at once
