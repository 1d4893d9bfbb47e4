"""The instants of an activation at which a process may die, fail or be stopped, by name.

Nothing happens at them: no setting, variable or request changes that (OWASP ASVS 15.2.3). The tests of the promise replace
`reached` within a server of their own, so call it as `failpoints.reached(…)`.
"""

from enum import StrEnum


class Point(StrEnum):
    """In the order in which an activation comes by; a recovery sweep has two of its own."""

    INTENT_BEGUN = "intent.begun"
    """Transaction one is open; nothing is locked."""
    INTENT_LOCKED = "intent.locked"
    INTENT_WRITTEN = "intent.written"
    """All of transaction one is written, and not committed."""
    INTENT_COMMITTED = "intent.committed"
    CALL_CONNECTING = "call.connecting"
    CALL_SENDING = "call.sending"
    """There is a connection; the order goes out next, unless too much time has passed."""
    CALL_SENT = "call.sent"
    CALL_HEADED = "call.headed"
    """The answer's status and headers are read."""
    CALL_ANSWERED = "call.answered"
    ANSWER_BEGUN = "answer.begun"
    """Transaction two is open."""
    ANSWER_SETTLED = "answer.settled"
    """The profile has its new status, and nothing else is written."""
    ANSWER_WRITTEN = "answer.written"
    ANSWER_COMMITTED = "answer.committed"
    """The caller hasn't been told."""

    SWEEP_LOCKED = "sweep.locked"
    SWEEP_WRITTEN = "sweep.written"


def reached(point: Point, reference: str) -> None:
    """
    Does nothing.

    Args:
        reference: of the order that has come so far, `order-<id>`.
    """
