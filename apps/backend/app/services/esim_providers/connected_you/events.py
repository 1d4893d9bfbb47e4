"""ConnectedYou's three published webhook events, and the one static header by which they are known.

No signature, no event id, no order: the ICCID is the only key. Source: their public pages, as docs/providers/connected_you.md
describes them.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from app.services.esim_providers import reading
from app.services.esim_providers.contract import Answer
from app.services.esim_providers.events import (
    News,
    PlanTold,
    PortalEntry,
    ProfileTold,
    ProviderEvent,
    RawHeaders,
    Refusal,
    UsageTold,
)

_SHORTEST_SECRET = 16
_LEAST_TOTAL_MB, _MOST_MB = 0.001, 1e9
"""From a kilobyte to a petabyte: no plan has less or more."""

_MOST_PERCENT = 1000
_WORD = re.compile("[A-Z][A-Z0-9_]{0,63}")

_PROFILE = {
    state.upper(): ProfileTold(state) for state in ("downloaded", "installed", "enabled", "disabled", "deleted")
}
_PLAN = {"ACTIVATED": PlanTold("active"), "TERMINATED": PlanTold("terminated")}


@dataclass(frozen=True)
class ConnectedYouEvents:
    """As `EventSource`."""

    name: ClassVar[str] = "CONNECTED_YOU"
    header: str
    """In small letters."""
    secret: str | None = field(repr=False)

    @property
    def portal(self) -> PortalEntry:
        is_guessable = self.secret is not None and len(self.secret) < _SHORTEST_SECRET
        return PortalEntry(self.header, self.secret is not None, "CONNECTED_YOU_WEBHOOK_SECRET", is_guessable)

    def refusal(self, headers: RawHeaders) -> Refusal | None:
        """As `EventSource.refusal`."""
        if not self.secret:
            return Refusal.CLOSED
        name = self.header.encode()
        match [value for given, value in headers if given.lower() == name]:
            case []:
                return Refusal.MISSING
            case [value]:
                # On bytes, and of both in full: neither another length nor another alphabet is seen earlier than the last byte.
                return None if hmac.compare_digest(value, self.secret.encode()) else Refusal.WRONG
            case _:
                return Refusal.TWICE

    def read(self, body: bytes) -> ProviderEvent:
        """As `EventSource.read`."""
        try:
            members = reading.read_json(Answer(None, body))
        except ValueError:
            return ProviderEvent(_key_of_body(body), warnings=("not-json",))
        if not isinstance(members, dict):
            return ProviderEvent(_key_of_body(body), warnings=("not-an-object",))
        warnings: list[str] = []
        kind = _read_word(members.get("event_type"), "event-type", warnings)
        iccid = reading.read_iccid(members.get("iccid"), warnings)
        at = _read_time(members.get("event_timestamp"), warnings)
        news = _NEWS[kind](members, warnings) if kind in _NEWS else None
        if kind is not None and kind not in _NEWS:
            warnings.append("event-type-unknown")
        if news is None or at is None or iccid is None or iccid.identity is None:
            key = _key_of_body(body)
        else:
            key = f"{kind}\n{iccid.identity}\n{at.isoformat()}\n{_status_of(news)}"
        return ProviderEvent(key, kind, iccid, at, news, tuple(warnings))


def _key_of_body(body: bytes) -> str:
    """Of what isn't understood every byte counts."""
    return f"body\n{hashlib.sha256(body).hexdigest()}"


def _status_of(news: News) -> str:
    """Two usage alerts of one second differ in their numbers."""
    return f"{news.used_mb!r} of {news.total_mb!r}" if isinstance(news, UsageTold) else news.state


def _read_word(value: object, what: str, warnings: list[str]) -> str | None:
    """One of their words for a type or status, in capitals; None where it is none."""
    if value is None:
        warnings.append(f"{what}-missing")
        return None
    word = value.strip().upper() if reading.is_text(value) else ""
    if not _WORD.fullmatch(word):
        warnings.append(f"{what}-unreadable")
        return None
    return word


def _read_time(value: object, warnings: list[str]) -> datetime | None:
    """Their times are UTC, with or without saying so."""
    if value is None:
        warnings.append("time-missing")
        return None
    try:
        at = datetime.fromisoformat(value.strip() if reading.is_text(value) else "")
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter where the first or the last day there is has another zone
        warnings.append("time-unreadable")
        return None


def _read_status(table: dict[str, Any], value: object, warnings: list[str]) -> Any:  # noqa: ANN401 - what the table has
    word = _read_word(value, "status", warnings)
    if word is None:
        return None
    if word not in table:
        warnings.append("status-unknown")
    return table.get(word)


def _read_profile(members: dict[str, Any], warnings: list[str]) -> News | None:
    told: ProfileTold | None = _read_status(_PROFILE, members.get("status"), warnings)
    return told


def _read_plan(members: dict[str, Any], warnings: list[str]) -> News | None:
    told: PlanTold | None = _read_status(_PLAN, members.get("product_status"), warnings)
    return told


def _read_usage(members: dict[str, Any], warnings: list[str]) -> News | None:
    used, total = (reading.read_number(members.get(name)) for name in ("data_consumed", "data_total"))
    if used is None or total is None or not 0 <= used <= _MOST_MB or not _LEAST_TOTAL_MB <= total <= _MOST_MB:
        warnings.append("usage-unreadable")
        return None
    percentage = reading.read_number(members.get("percentage_consumed"))
    if percentage is None or not 0 <= percentage <= _MOST_PERCENT:
        warnings.append("percentage-unreadable")
        percentage = round(100 * used / total, 2)
    return UsageTold(used, total, percentage)


_NEWS: dict[str, Callable[[dict[str, Any], list[str]], News | None]] = {
    "USAGE_ALERT": _read_usage,
    "PROFILE_LIFECYCLE": _read_profile,
    "PRODUCT_STATUS_CHANGE": _read_plan,
}
