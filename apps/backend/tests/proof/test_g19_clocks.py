from pathlib import Path

import pytest

from tests.chaos import g19

CLOCKS = {clock.name: clock for clock in g19.CLOCKS}


@pytest.mark.parametrize("name", ["servers five minutes apart", "database an hour ahead"])
async def test_a_wrong_clock_doubles_nothing_and_gives_up_no_call_in_flight(
    tmp_path: Path, postgres_url: str, name: str
) -> None:
    outcome = await g19.run(
        tmp_path, n=60, seed=1, clocks=[CLOCKS[name]], with_sleeper=False, postgres_url=postgres_url
    )
    assert outcome.failures == []
    assert outcome.verdict.is_clean, outcome.verdict.cases
