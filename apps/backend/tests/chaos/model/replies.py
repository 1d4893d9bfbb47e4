"""What a caller of an activation is to be told."""

from dataclasses import dataclass

from tests.api.serving import Reply
from tests.chaos.model.prediction import PROBLEM, ModelOrder, Standing

_RETRYABLE = {"provider-unreachable", "provider-rate-limited", "database-unavailable"}
_STATUS = {"order-not-paid": 409, "database-unavailable": 503}


@dataclass(frozen=True, slots=True)
class Expected:
    """`retry_after_s`: at least and at most; None for no such header. `may_be_early`: 202 will do, as it was asked for."""

    status: int
    problem: str | None = None
    retry_after_s: tuple[int, int] | None = None
    may_be_early: bool = False


FIRST = Expected(201)
REPLAYED = Expected(200)
UNDER_WAY = Expected(202, retry_after_s=(2, 2))
AWAY = Expected(503, "database-unavailable", (2, 2))


def failed(outcome: str, retry_after_s: int | None = None) -> Expected:
    """As an attempt with this outcome fails."""
    return Expected(502, PROBLEM[outcome], None if retry_after_s is None else (retry_after_s, retry_after_s))


def at_once(standing: Standing, held_off_for_s: int) -> Expected:
    """What an order that isn't sent is answered."""
    return {
        Standing.PROVISIONED: REPLAYED,
        Standing.UNKNOWN: Expected(409, "activation-outcome-unknown"),
        Standing.NOT_PAID: Expected(409, "order-not-paid"),
        # A step takes its time, but never this much.
        Standing.ON_HOLD: Expected(503, "provider-rate-limited", (held_off_for_s - 400, held_off_for_s + 1)),
    }[standing]


def check(reply: Reply, expected: Expected, order: ModelOrder) -> None:
    """
    Raises:
        AssertionError: the reply is another.
    """
    if expected.may_be_early and reply.status == UNDER_WAY.status:
        assert reply.headers["Preference-Applied"] == "respond-async"
        return
    assert reply.status == expected.status, f"{order.reference}: {reply} instead of {expected}"
    if expected.problem is not None:
        assert reply.problem == (expected.status, expected.problem), f"{order.reference}: {reply}"
        assert reply.json()["retryable"] is (expected.problem in _RETRYABLE)
    else:
        _check_esim(reply, order)
    if expected.retry_after_s is None:
        assert "Retry-After" not in reply.headers
    else:
        at_least, at_most = expected.retry_after_s
        assert at_least <= int(reply.headers["Retry-After"]) <= at_most
    assert reply.headers.get("Idempotent-Replayed") == ("true" if expected.status == REPLAYED.status else None)


def _check_esim(reply: Reply, order: ModelOrder) -> None:
    esim = reply.json()
    assert (esim["id"], esim["order_id"], esim["status"]) == (order.esim_id, order.id, order.profile), order.reference
    assert esim["activation_code"] == order.code
    if order.profile == "provisioned":
        order.body = order.body or reply.body
        assert reply.body == order.body, f"{order.reference}: its eSIM has changed"
