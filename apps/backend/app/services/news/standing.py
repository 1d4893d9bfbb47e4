"""
What is known of an eSIM on each axis, and since when: the newest that the provider has told. Pure.

On each axis what is told later *by the provider's clock* stands, whatever comes first. Of two that have the same time the later
state of a profile's life stands (`PROFILE_STATES`), the end of a plan before its beginning, the greater usage. So the same events
lead to the same end in any order, and a second time change nothing.

A plan that has ended is `depleted` where the newest usage says that all was used, else `terminated`: ConnectedYou has one word for
both, and no alert need come after that of 80 %. When the usage comes later, it still turns the one into the other.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from app.models.esims import PLAN_STATES, PROFILE_STATES
from app.services.esim_providers import News, PlanTold, ProfileTold, UsageTold

_ENDINGS: Final = ("depleted", "terminated")


@dataclass(frozen=True, slots=True)
class Standing:
    """As the profile's columns of these names. `…_at` is the provider's time, None where nothing was told yet."""

    profile_state: str | None
    profile_state_at: datetime | None
    plan_state: str | None
    plan_state_at: datetime | None
    data_used_mb: float | None
    data_total_mb: float | None
    usage_at: datetime | None

    def after(self, news: News, at: datetime) -> "Standing":
        """
        Args:
            at: the provider's time of the news.

        Returns:
            What is known with it; equal to this one where it is no news.
        """
        match news:
            case ProfileTold(state):
                if self._profile_since is not None and (at, PROFILE_STATES.index(state)) <= self._profile_since:
                    return self
                return replace(self, profile_state=state, profile_state_at=at)
            case PlanTold(state):
                if self._plan_since is not None and (at, _plan_rank(state)) <= self._plan_since:
                    return self
                return _ended_rightly(replace(self, plan_state=state, plan_state_at=at))
            case UsageTold(used_mb, total_mb):
                if self._usage_since is not None and (at, used_mb, total_mb) <= self._usage_since:
                    return self
                return _ended_rightly(replace(self, data_used_mb=used_mb, data_total_mb=total_mb, usage_at=at))

    @property
    def _profile_since(self) -> tuple[datetime, int] | None:
        if self.profile_state is None or self.profile_state_at is None:
            return None
        return self.profile_state_at, PROFILE_STATES.index(self.profile_state)

    @property
    def _plan_since(self) -> tuple[datetime, int] | None:
        if self.plan_state is None or self.plan_state_at is None:
            return None
        return self.plan_state_at, _plan_rank(self.plan_state)

    @property
    def _usage_since(self) -> tuple[datetime, float, float] | None:
        if self.usage_at is None or self.data_used_mb is None or self.data_total_mb is None:
            return None
        return self.usage_at, self.data_used_mb, self.data_total_mb


def _ended_rightly(standing: Standing) -> Standing:
    if standing.plan_state not in _ENDINGS:
        return standing
    used_mb, total_mb = standing.data_used_mb, standing.data_total_mb
    is_used_up = used_mb is not None and total_mb is not None and used_mb >= total_mb
    return replace(standing, plan_state="depleted" if is_used_up else "terminated")


def _plan_rank(state: str) -> int:
    """The endings are one: which of them it is may turn out later."""
    return PLAN_STATES.index("terminated" if state in _ENDINGS else state)
