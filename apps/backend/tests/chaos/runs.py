"""The runs, by the numbers of the proof they belong to. Whoever writes one adds its line."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from tests.chaos import breaks, g01, g02, g03, g04, g05, g06, g07, g09, g10, g13, g14, g16, g17, g19, g21, g22, g23
from tests.chaos.outcome import Outcome
from tests.chaos.sabotage import SABOTAGES


@dataclass(frozen=True)
class Run:
    """
    Attributes:
        unit: what N counts, in the plural.
        target: the N to reach.
        batch: units that share an installation; a run that is stopped goes on at the last whole batch.
        function: `run(folder, n=…, seed=…, tick=…)`.
    """

    name: str
    title: str
    unit: str
    target: int
    batch: int
    function: Callable[..., Awaitable[Outcome]]


_RUNS = (
    Run("G1", "fault matrix", "activations", 25_000, 2_500, g01.run),
    Run("G2", "API processes killed at random instants", "kills", 500, 50, g02.run),
    Run("G3", "killed, failed and stopped at every named point", "cases", 45, 45, g03.run),
    Run("G4", "the database dies, and COMMITs lose their answers", "disturbances", 640, 64, g04.run),
    Run("G5", "a crowd for one order, on two processes", "calls", 100_000, 10_000, g05.run),
    Run("G6", "clients that hang up", "calls", 1_000, 1_000, g06.run),
    Run("G7", "random programs, done to the product and to a model of it", "steps", 300_000, 20_000, g07.run),
    Run("G9", "good answers, mutated", "answers", 20_000, 5_000, g09.run),
    Run("G10", "orders written as idle connections are closed", "activations", 5_000, 5_000, g10.run),
    Run("G13", "webhooks: forged, sent again, in every order", "forgeries", 50_000, 50_000, g13.run),
    Run("G14", "receivers that are dead, hang or lose answers", "events", 1_000, 1_000, g14.run),
    Run("G16", "the database set back to a moment of its past", "moments", 200, 10, g16.run),
    Run("G17", "the release before replaced by this one, under load", "rolls", 20, 5, g17.run),
    Run(
        "G18",
        "fault matrix, through PgBouncer",
        "activations",
        1_500,
        1_500,
        partial(g01.run, is_through_pgbouncer=True),
    ),
    Run("G19", "wrong clocks, and a server that sleeps", "activations", 3_300, 1_100, g19.run),
    Run("G21", "thousands wait on a slow supplier", "activations", 5_000, 5_000, g21.run),
    Run("G22", "everything dies with calls in flight", "activations", 500, 500, g22.run),
    Run("G23", "a place at a time changed in the core", "modules", 23, 23, g23.run),
    Run(
        "breaks",
        "the product broken on purpose: does the proof notice?",
        "sabotages",
        len(SABOTAGES),
        len(SABOTAGES),
        breaks.run,
    ),
)
RUNS = {run.name.lower(): run for run in _RUNS}
