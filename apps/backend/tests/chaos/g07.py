"""
G7: programs of random steps, done to two processes of the product and to a model of it. After each step every answer, every row
and every call to the supplier must be what the model says (`model/`).
"""

import asyncio
import random
import traceback
from pathlib import Path

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.reporting import with_reporter
from hypothesis.stateful import run_state_machine_as_test
from psycopg.conninfo import conninfo_to_dict

from app import schema
from app.postgres import hold
from tests.chaos.model.machine import Promise
from tests.chaos.model.steps import STEPS
from tests.chaos.model.world import World
from tests.chaos.outcome import Outcome, Tick

STEPS_A_PROGRAM = 50
_PROGRAMS = 40
"""With one seed of Hypothesis's: the longer it goes on, the more it repeats itself."""
_PHASES = (Phase.generate, Phase.target, Phase.shrink)
"""Nothing is taken from earlier runs: the seed says it all."""


async def run(folder: Path, *, n: int, seed: int, tick: Tick, steps: int = STEPS_A_PROGRAM) -> Outcome:
    """
    Args:
        n: steps at least.
        steps: of each program at most.
    """
    return await asyncio.to_thread(_run, folder, n, seed, tick, steps)


def _run(folder: Path, n: int, seed: int, tick: Tick, steps: int) -> Outcome:
    with hold(folder / "model") as server:
        parts = conninfo_to_dict(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE model")
        url = f"postgresql://{parts['user']}@/model?host={parts['host']}&port={parts['port']}"
        schema.migrate(url)
        return explore(url, n=n, seed=seed, tick=tick, steps=steps, each=n // 1_000)


def explore(url: str, *, n: int, seed: int, tick: Tick, steps: int, each: int) -> Outcome:
    """
    As `run`, on a migrated database of its own. A program that fails is shrunk and told.

    Args:
        each: how often every kind of step is taken at least; up to so many steps more as it needs, and never twice `n`.
    """
    outcome, seeds = Outcome(), random.Random(f"{seed}/model")  # noqa: S311 - a schedule, no secret
    world = World(url, tick, most_often=max(5, steps // 6))
    try:
        with world.listening_to_the_log(), world.awake():
            while not outcome.failures and (
                world.steps.total() < n
                or (world.steps.total() < 2 * n and any(world.steps[name] < each for name in STEPS))
            ):
                outcome.failures += _explore(world, _PROGRAMS, steps, seeds.getrandbits(64))
    finally:
        world.close()
    outcome.done, outcome.verdict = world.steps.total(), world.verdict
    # A step that was never taken counts, too.
    outcome.counts.update(dict.fromkeys(STEPS, 0) | world.steps)
    outcome.counts.update(world.counts)
    outcome.figures["programs"] = world.programs
    for name in STEPS:
        outcome.require(name, each)
    return outcome


def _explore(world: World, programs: int, steps: int, seed: int) -> list[str]:
    machine = type("Promise", (Promise,), {"everything": world})
    told: list[str] = []
    try:
        with with_reporter(lambda line: told.append(str(line))):
            run_state_machine_as_test(
                seeded(seed)(machine),
                settings=settings(
                    max_examples=programs,
                    stateful_step_count=steps,
                    database=None,
                    deadline=None,
                    phases=_PHASES,
                    suppress_health_check=list(HealthCheck),
                    print_blob=False,
                ),
            )
    except Exception as error:  # noqa: BLE001 - whatever it is, the program that led to it is what counts
        program = "\n".join([*told, *getattr(error, "__notes__", [])])
        return [f"{error}\n{program}\n{''.join(traceback.format_exception(error, limit=-4))}"]
    return []
