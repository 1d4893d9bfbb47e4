"""G1: whatever fails, and in whichever moment it fails, no order is doubled, lost, invented, stuck or silent."""

from pathlib import Path

import pytest

from tests.chaos import g01
from tests.chaos.matrix import FAULTS, Moment, cells


async def test_the_matrix_is_as_large_as_claimed() -> None:
    assert len([fault for fault in FAULTS if not fault.is_rare]) >= 20
    assert len({cell.name for cell in cells(rare=False)}) == len(Moment) * len(
        [fault for fault in FAULTS if not fault.is_rare]
    )


@pytest.mark.through_pgbouncer
async def test_every_fault_at_every_moment(tmp_path: Path, is_through_pgbouncer: bool) -> None:
    n = 300 if is_through_pgbouncer else 1500  # `make chaos RUN=G18` does as many through PgBouncer
    outcome = await g01.run(tmp_path, n=n, seed=1, is_through_pgbouncer=is_through_pgbouncer)
    assert outcome.failures == []
    assert outcome.verdict.is_clean, outcome.verdict.cases
    assert min(outcome.counts[cell.name] for cell in cells(rare=False)) >= n // 150
