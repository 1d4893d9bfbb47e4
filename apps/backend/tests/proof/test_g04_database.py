"""G4: a database that dies, is cut off, stands still and loses the answers to COMMITs costs no order and no second eSIM."""

from pathlib import Path

from tests.chaos import g04

SHORT = {
    g04.KILLED: 3,
    g04.STOPPED: 2,
    g04.TERMINATED: 5,
    g04.STOOD_STILL: 1,
    g04.LOST_ONE: 10,
    g04.LOST_TWO: 10,
    g04.DROPPED_ONE: 2,
    g04.DROPPED_TWO: 2,
    g04.LOST_ORDER: 2,
}


async def test_whatever_happens_to_the_database_no_order_suffers(tmp_path: Path) -> None:
    outcome = await g04.run(tmp_path, n=sum(SHORT.values()), seed=4, mix=SHORT, stall_s=3, clients=8)
    assert outcome.failures == []
    assert outcome.verdict.is_clean, outcome.verdict.cases
    assert {what: outcome.counts[what] for what in SHORT} == SHORT
