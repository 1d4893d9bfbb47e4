"""The crowd that queries are measured on: none is begun where it can't be finished."""

from pathlib import Path

import pytest

from tests.bench.crowd import NoRoom, check_room


def test_without_room_nothing_is_written(tmp_path: Path) -> None:
    check_room(tmp_path, 1)
    with pytest.raises(NoRoom, match=r"1,000,000,000 orders take .* GB free: nothing was written"):
        check_room(tmp_path, 10**9)
