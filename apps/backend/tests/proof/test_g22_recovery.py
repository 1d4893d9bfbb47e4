from pathlib import Path

from tests.chaos import g22


async def test_an_installation_that_dies_with_calls_in_flight_is_well_again_and_a_person_settles_the_rest(
    tmp_path: Path,
) -> None:
    limits = g22.Limits(first_answer_s=60, classified_s=60, settled_s=60)
    outcome = await g22.run(tmp_path, n=40, seed=1, timeout_s=10, limits=limits, on_disk=False)
    assert outcome.failures == []
    assert outcome.verdict.is_clean, outcome.verdict.cases
