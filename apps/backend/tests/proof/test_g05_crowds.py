from pathlib import Path

from tests.chaos import g05


async def test_a_crowd_that_calls_for_one_order_on_two_processes_buys_it_once(
    tmp_path: Path, postgres_url: str
) -> None:
    outcome = await g05.run(tmp_path, n=2_000, seed=1, calls_per_order=100, postgres_url=postgres_url)
    assert outcome.failures == []
    assert outcome.verdict.is_clean, outcome.verdict.cases
    assert outcome.counts["POSTs"] == 20
