"""What a traveller is told, for every combination of states that an eSIM can be in."""

from datetime import timedelta
from itertools import product

import pytest

from app.models.esims import PLAN_STATES, PROFILE_STATES, PROFILE_STATUSES
from app.models.orders import ORDER_STATUSES
from app.services.esims.installing import LATE_AFTER, Stage
from tests.travellers import NOW, an_installing


@pytest.mark.parametrize(
    ("profile_state", "plan_state", "stage"),
    [
        (None, None, Stage.READY),
        (None, "not_started", Stage.READY),
        ("released", "not_started", Stage.READY),
        ("downloaded", "not_started", Stage.DOWNLOADED),
        ("installed", "not_started", Stage.INSTALLED),
        ("enabled", "not_started", Stage.ON),
        ("disabled", "not_started", Stage.OFF),
        ("deleted", "not_started", Stage.DELETED),
        (None, "active", Stage.IN_USE),
        ("released", "active", Stage.IN_USE),
        ("downloaded", "active", Stage.IN_USE),
        ("installed", "active", Stage.IN_USE),
        ("enabled", "active", Stage.IN_USE),
        ("disabled", "active", Stage.OFF),
        ("deleted", "active", Stage.DELETED),
        ("enabled", "depleted", Stage.USED_UP),
        ("deleted", "depleted", Stage.USED_UP),
        ("enabled", "expired", Stage.EXPIRED),
        (None, "terminated", Stage.ENDED),
    ],
)
def test_a_provisioned_esim_has_one_next_step(profile_state: str | None, plan_state: str | None, stage: Stage) -> None:
    assert an_installing(profile_state=profile_state, plan_state=plan_state).stage == stage


@pytest.mark.parametrize(
    ("status", "stage"),
    [
        ("pending", Stage.PREPARING),
        ("provisioning", Stage.PREPARING),
        ("unknown", Stage.CHECKING),
        ("refused", Stage.NOT_SUPPLIED),
        ("cancelled", Stage.CANCELLED),
    ],
)
def test_before_that_the_page_says_how_it_is(status: str, stage: Stage) -> None:
    assert an_installing(status=status).stage == stage


def test_what_takes_longer_than_promised_is_said_to() -> None:
    for status in ("pending", "provisioning"):
        early = LATE_AFTER - timedelta(seconds=1)
        assert an_installing(status=status, ordered_at=NOW - early).stage == Stage.PREPARING
        assert an_installing(status=status, ordered_at=NOW - LATE_AFTER).stage == Stage.LATE
    assert an_installing(status="unknown", ordered_at=NOW - LATE_AFTER).stage == Stage.CHECKING


@pytest.mark.parametrize(("order_status", "stage"), [("refunded", Stage.REFUNDED), ("cancelled", Stage.CANCELLED)])
def test_an_order_that_was_taken_back_has_nothing_to_install(order_status: str, stage: Stage) -> None:
    for status in PROFILE_STATUSES:
        assert an_installing(status=status, order_status=order_status).stage == stage


def test_there_is_a_stage_for_every_combination() -> None:
    combined = product(ORDER_STATUSES, PROFILE_STATUSES, (None, *PROFILE_STATES), (None, *PLAN_STATES))
    stages = {
        an_installing(order_status=order, status=status, profile_state=profile, plan_state=plan).stage
        for order, status, profile, plan in combined
    }
    assert stages == set(Stage) - {Stage.LATE}


@pytest.mark.parametrize(
    ("used", "total", "left"),
    [(1000, 5120, 4120), (5120, 5120, 0), (6000, 5120, 0), (None, 5120, None), (10, None, None)],
)
def test_data_left_is_told_where_both_numbers_are_known(
    used: float | None, total: float | None, left: float | None
) -> None:
    assert an_installing(data_used_mb=used, data_total_mb=total).data_left_mb == left


@pytest.mark.parametrize(
    ("ends_in", "days"),
    [
        (timedelta(days=11, hours=3), 12),
        (timedelta(days=1), 1),
        (timedelta(minutes=1), 1),
        (timedelta(0), None),
        (timedelta(days=-1), None),
    ],
)
def test_days_left_count_the_one_that_has_begun(ends_in: timedelta, days: int | None) -> None:
    assert an_installing(ends_at=NOW + ends_in).days_left == days
    assert an_installing(ends_at=None).days_left is None
