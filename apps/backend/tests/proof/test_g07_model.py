"""G7: whatever is done to it, and in whatever order, the product does what the model of the promise says."""

import asyncio

from tests.chaos.g07 import explore
from tests.chaos.outcome import no_tick

_STEPS = 3_000
_STEPS_A_PROGRAM = 30
_EACH = 20
_SEED = 23
_RARITIES = (
    *("late delivered", "late surplus", "late refused", "late held_off", "sent again", "sent again by hand"),
    *("refused intent", "refused answer", "unacknowledged intent", "unacknowledged answer"),
    *("dies_before intent", "dies_before answer", "dies_after intent", "dies_after answer"),
)


async def test_programs_of_every_kind_of_step_end_as_the_model_says(database_url: str) -> None:
    outcome = await asyncio.to_thread(
        explore, database_url, n=_STEPS, seed=_SEED, tick=no_tick, steps=_STEPS_A_PROGRAM, each=_EACH
    )
    for rarity in _RARITIES:
        outcome.require(rarity, 1)
    assert outcome.has_passed, "\n".join([*outcome.failures, *outcome.verdict.cases])
    assert outcome.done >= _STEPS
