"""The crowd that queries are measured on: none is begun where it can't be finished."""

from pathlib import Path

import pytest

from tests.bench.crowd import NoRoom, check_room, check_stock


def test_without_room_nothing_is_written(tmp_path: Path) -> None:
    check_room(tmp_path, 1)
    with pytest.raises(NoRoom, match=r"1,000,000,000 orders take .* GB free: nothing was written"):
        check_room(tmp_path, 10**9)


def test_no_more_orders_wait_than_there_are() -> None:
    """Their numbers would be below zero, and every activation refused."""
    check_stock(10_000, 2_500)
    with pytest.raises(
        NoRoom, match=r"of 10,000 orders every fourth may wait to be activated: 2,500 at most, not 2,501"
    ):
        check_stock(10_000, 2_501)
