"""G6: a client that hangs up stops nothing, with a proxy before the server and without."""

from pathlib import Path

from tests.chaos import g06
from tests.chaos.outcome import Verdict, no_tick


async def test_orders_whose_client_hung_up_are_all_provisioned_and_no_call_was_given_up(
    postgres_url: str, tmp_path: Path
) -> None:
    outcome = await g06.run(tmp_path, n=100, seed=6, tick=no_tick, postgres_url=postgres_url)
    assert outcome.failures == []
    assert outcome.verdict == Verdict()
    assert outcome.counts["calls to the supplier"] == 100
