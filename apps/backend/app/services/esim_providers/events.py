"""What a supplier tells of its own accord, by webhook: each event is about one eSIM, and has the supplier's own time.

Anything may come twice, late, in any order, and before the answer to the purchase. So an event says what is so *since when*, and
the core keeps the newest of each axis (`app.services.news`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Protocol

from app.values.iccid import Iccid

RawHeaders = Iterable[tuple[bytes, bytes]]
"""As they came: names in small letters, a name as often as it was sent."""


@dataclass(frozen=True, slots=True)
class ProfileTold:
    """What the handset did: one of `models.esims.PROFILE_STATES`."""

    state: str


@dataclass(frozen=True, slots=True)
class PlanTold:
    """What became of the data package: `active`, or `terminated` where the supplier doesn't say why it ended."""

    state: str


@dataclass(frozen=True, slots=True)
class UsageTold:
    """In megabytes, none of them negative, the total a kilobyte at least. `percentage`: as the supplier measured it (51.27)."""

    used_mb: float
    total_mb: float
    percentage: float


News = ProfileTold | PlanTold | UsageTold


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """
    An event as far as it could be read. What is odd about it stands in `warnings`, and it is kept all the same.

    Attributes:
        key: the same for two deliveries of one event, and for no other one's.
        kind: the supplier's own word for its type; None where it is no plain word.
        at: the supplier's time, in UTC.
        news: what it says; None where that isn't clear.
    """

    key: str
    kind: str | None = None
    iccid: Iccid | None = None
    at: datetime | None = None
    news: News | None = None
    warnings: tuple[str, ...] = ()


class Refusal(StrEnum):
    """Why a webhook isn't taken for the supplier's."""

    CLOSED = "no-secret-is-set"
    MISSING = "header-missing"
    TWICE = "header-given-twice"
    WRONG = "wrong-secret"


@dataclass(frozen=True, slots=True)
class PortalEntry:
    """What has to be entered at the supplier, besides our address; and the settings that it comes from."""

    header: str
    has_secret: bool
    secret_setting: str
    is_guessable: bool
    """The secret is too short to be one."""


class EventSource(Protocol):
    """The events of a supplier: whether a webhook is its, and what it says."""

    name: ClassVar[str]
    """That of its `EsimProvider`."""

    @property
    def portal(self) -> PortalEntry: ...

    def refusal(self, headers: RawHeaders) -> Refusal | None:
        """Whether the sender is the supplier: None. Compares in constant time; without a secret everybody is refused."""

    def read(self, body: bytes) -> ProviderEvent:
        """Never raises, whatever was sent. Pure: what was kept can be read again."""
