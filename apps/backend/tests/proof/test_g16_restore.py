"""G16: a database that is set back to an older state costs no second eSIM, and forgets no order that was sent."""

from pathlib import Path

from tests.chaos import g16

_CUTS = 3


async def test_what_was_bought_before_a_restore_is_not_bought_again(tmp_path: Path) -> None:
    outcome = await g16.run(tmp_path, n=_CUTS, seed=16, activations=40)
    assert outcome.failures == []
    assert outcome.verdict.is_clean, outcome.verdict.cases
    assert outcome.counts[g16.CUT] == _CUTS
