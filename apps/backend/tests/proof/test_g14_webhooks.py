"""G14: what sellers are told arrives, whoever is away and for how long, and nothing goes where it may not."""

from tests.chaos import g14
from tests.chaos.outcome import Verdict


async def test_what_is_told_arrives_once_a_receiver_is_back_and_nobody_waits_for_it_meanwhile(
    database_url: str,
) -> None:
    # The run itself holds 5 %; beside other tests a machine says little of a few milliseconds.
    outcome = await g14.told(database_url, n=20, seed=14, limits=g14.Limits(slowed=0.5), rounds=2)
    assert outcome.failures == []
    assert outcome.verdict == Verdict()
    assert outcome.figures["connections_to_those"] == 0
