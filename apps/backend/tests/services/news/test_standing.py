"""The newest by the provider's time stands, on each axis, in whatever order it is told."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from app.models.esims import PLAN_STATES, PROFILE_STATES
from app.services.esim_providers import News, PlanTold, ProfileTold, UsageTold
from app.services.news.moves import StateMoved, UsageMoved, moves_between
from app.services.news.standing import Standing

SOLD = Standing(None, None, "not_started", None, None, None, None)


def at(minute: int) -> datetime:
    return datetime(2026, 11, 20, 10, tzinfo=UTC) + timedelta(minutes=minute)


def after(*told: tuple[News, int]) -> Standing:
    standing = SOLD
    for news, minute in told:
        standing = standing.after(news, at(minute))
    return standing


LIVES: dict[str, list[tuple[News, int]]] = {
    "a whole one": [
        (ProfileTold("downloaded"), 0),
        (ProfileTold("enabled"), 20),
        (PlanTold("active"), 30),
        (UsageTold(2625, 5120, 51.27), 31),
        (UsageTold(5120, 5120, 100), 40),
        (PlanTold("terminated"), 50),
    ],
    "all at the same time": [
        (ProfileTold("disabled"), 0),
        (ProfileTold("enabled"), 0),
        (PlanTold("active"), 0),
        (UsageTold(4096, 5120, 80), 0),
        (UsageTold(2625, 5120, 51.27), 0),
        (PlanTold("terminated"), 0),
    ],
    "begun anew after its end": [
        (PlanTold("active"), 0),
        (UsageTold(5120, 5120, 100), 10),
        (PlanTold("terminated"), 10),
        (UsageTold(0, 1024, 0), 20),
        (PlanTold("active"), 20),
        (ProfileTold("deleted"), 0),
    ],
    "ended, with the usage told later and again less": [
        (PlanTold("terminated"), 0),
        (UsageTold(5121, 5120, 100.02), 10),
        (UsageTold(100, 5120, 1.95), 20),
        (PlanTold("active"), 0),
        (ProfileTold("enabled"), 5),
        (ProfileTold("deleted"), 5),
    ],
}
ENDS = {
    "a whole one": ("enabled", "depleted", 5120),
    "all at the same time": ("disabled", "terminated", 4096),
    "begun anew after its end": ("deleted", "active", 0),
    "ended, with the usage told later and again less": ("deleted", "terminated", 100),
}


@pytest.mark.parametrize("life", LIVES)
def test_all_720_orders_of_six_events_come_to_the_same_end(life: str) -> None:
    [end] = {after(*order) for order in permutations(LIVES[life])}
    assert (end.profile_state, end.plan_state, end.data_used_mb) == ENDS[life]


@pytest.mark.parametrize("life", LIVES)
def test_what_is_told_again_changes_nothing(life: str) -> None:
    end = after(*LIVES[life])
    for news, minute in LIVES[life]:
        assert end.after(news, at(minute)) == end


def test_a_later_time_stands_whatever_the_state() -> None:
    for first in PROFILE_STATES:
        for second in PROFILE_STATES:
            assert after((ProfileTold(first), 0), (ProfileTold(second), 1)).profile_state == second
            assert after((ProfileTold(second), 1), (ProfileTold(first), 0)).profile_state == second


def test_a_plan_that_ended_is_depleted_only_where_all_was_used() -> None:
    assert after((PlanTold("terminated"), 5)).plan_state == "terminated"
    assert after((UsageTold(4096, 5120, 80), 1), (PlanTold("terminated"), 5)).plan_state == "terminated"
    assert after((UsageTold(5120, 5120, 100), 1), (PlanTold("terminated"), 5)).plan_state == "depleted"
    assert after((UsageTold(5120, 5120, 100), 1), (PlanTold("active"), 5)).plan_state == "active"


def test_every_state_that_a_provider_can_tell_is_one_that_a_profile_can_have() -> None:
    for state in ("active", "terminated"):
        assert after((PlanTold(state), 0)).plan_state in PLAN_STATES


def test_what_has_moved_is_told_with_before_and_after() -> None:
    ended = after((UsageTold(4096, 5120, 80), 0), (PlanTold("terminated"), 5))
    told = UsageTold(5120, 5120, 100)
    moves = list(moves_between(ended, ended.after(told, at(6)), told, at(6)))
    assert moves == [
        UsageMoved(5120, 5120, 100, at(6)),
        StateMoved("plan_state", "terminated", "depleted", at(6)),
    ]


def test_a_state_that_is_told_again_later_has_not_moved() -> None:
    enabled = after((ProfileTold("enabled"), 0))
    later = enabled.after(ProfileTold("enabled"), at(5))
    assert later.profile_state_at == at(5)
    assert list(moves_between(enabled, later, ProfileTold("enabled"), at(5))) == []
