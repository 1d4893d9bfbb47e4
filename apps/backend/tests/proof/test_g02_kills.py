from pathlib import Path

from tests.chaos import g02


async def test_servers_that_are_killed_at_any_instant_buy_nothing_twice_and_lose_nothing(
    tmp_path: Path, postgres_url: str
) -> None:
    outcome = await g02.run(tmp_path, n=10, seed=1, clients_at_once=24, postgres_url=postgres_url)
    assert outcome.failures == []
    assert outcome.verdict.is_clean, outcome.verdict.cases
