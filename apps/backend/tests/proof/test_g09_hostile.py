"""G9: whatever the supplier answers, nothing crashes, nothing bought is lost, and no order gets another's code."""

from pathlib import Path

import pytest

from app.house import House
from tests.chaos import g09
from tests.chaos.outcome import Outcome


@pytest.fixture
async def scripted(house: House, tmp_path: Path) -> Outcome:
    return await g09.scripted(house, tmp_path)


async def test_every_fault_of_the_table_goes_through_a_whole_activation_and_costs_no_code(scripted: Outcome) -> None:
    assert scripted.failures == []
    assert scripted.done >= len(scripted.counts) >= 120


async def test_mutated_answers_cost_no_code(house: House, tmp_path: Path) -> None:
    outcome = await g09.hostile(house, tmp_path, n=400, seed=9, tick=lambda _: None)
    assert outcome.failures == []
    assert outcome.figures["provisioned"] > 50
    assert outcome.figures["unknown"] > 50
