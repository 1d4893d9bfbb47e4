"""What an HTTP status says about an order, where the supplier speaks HTTP as it is meant. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil

from app.services.esim_providers.contract import (
    Answer,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
)

LONGEST_RETRY_AFTER_S = 24 * 3600
"""A supplier's `Retry-After` is believed up to a day: a typo of theirs may not close the shop for a year."""

_ABOUT_OUR_ACCOUNT = frozenset({401, 402, 403})
_SAYS_NOTHING = frozenset({408, 409, 425})
"""4xx that don't tell whether the order was taken: the server gave up waiting, saw a conflict, or fears a replay."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer of the supplier, and its `Retry-After` header as received."""

    answer: Answer
    retry_after: str | None = None


def raise_unless_successful(exchange: Exchange, supplier: str, reference: str) -> None:
    """
    Returns for a 2xx, or where no HTTP was spoken: then the body decides.

    Args:
        supplier: its name as people write it, for messages.

    Raises:
        SupplierRateLimited, SupplierRefused, SupplierOutcomeUnknown: by the design's table (section 3).
    """
    answer, status = exchange.answer, exchange.answer.status
    if status is None or 200 <= status <= 299:
        return
    if status == 429:
        raise SupplierRateLimited(
            f"{supplier} takes no more orders for now",
            answer=answer,
            retry_after_s=retry_after_seconds(exchange.retry_after),
        )
    if 400 <= status <= 499 and status not in _SAYS_NOTHING:
        raise SupplierRefused(
            f"{supplier} refused {reference}", answer=answer, concerns_account=status in _ABOUT_OUR_ACCOUNT
        )
    raise SupplierOutcomeUnknown(f"{supplier} gave no clear answer for {reference}", answer=answer)


def retry_after_seconds(header: str | None, *, now: datetime | None = None) -> int | None:
    """
    Reads `Retry-After` (RFC 9110 section 10.2.3): seconds or an HTTP date.

    Returns:
        Whole seconds from now, 0 to LONGEST_RETRY_AFTER_S; None where the header is absent or unreadable.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(int(text.lstrip("0")[:9] or "0"), LONGEST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0, min(ceil((at - (now or datetime.now(UTC))).total_seconds()), LONGEST_RETRY_AFTER_S))
