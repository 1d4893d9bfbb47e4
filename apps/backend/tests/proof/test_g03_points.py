"""G3: killed, failed and stopped at every named point, an order ends as the table says, and nothing is bought twice."""

from pathlib import Path

from app.failpoints import Point
from tests.chaos import g03


async def test_every_point_has_its_cases() -> None:
    assert list(g03.ENDS) == list(Point)
    assert len(g03.CASES) == 3 * len(Point)


async def test_every_case_ends_as_expected(tmp_path: Path, postgres_url: str) -> None:
    outcome = await g03.run(tmp_path, seed=3, postgres_url=postgres_url)
    assert outcome.failures == []
    assert outcome.verdict.is_clean, outcome.verdict.cases
    assert sum(outcome.counts.values()) == len(g03.CASES)
