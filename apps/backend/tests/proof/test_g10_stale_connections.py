"""G10: a supplier that closes idle connections just as the next order comes makes no unknown outcome."""

from pathlib import Path

from app.house import House
from tests.chaos import g10
from tests.chaos.outcome import Verdict, no_tick


async def test_orders_that_come_as_the_supplier_closes_idle_connections_are_all_provisioned(
    house: House, tmp_path: Path
) -> None:
    outcome = await g10.spaced(house, tmp_path, n=320, seed=10, tick=no_tick, closes_after_s=(0.5, 1.0), per_second=10)
    assert outcome.failures == []
    assert outcome.verdict == Verdict()
    assert outcome.figures["connections_per_order"] == 1
