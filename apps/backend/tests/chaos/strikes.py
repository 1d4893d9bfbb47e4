"""
What an armed failpoint does. Only within a server or worker that `forks` has forked: `failpoints.reached` is replaced there.

A plan says what happens to which order at which point. Each strike happens once in a run, whichever process comes by first: it
is noted in a file of its own before it is done, so what the harness counts has really happened.
"""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app import failpoints
from app.failpoints import Point

_ANSWER_WITHIN_S = 120

KILL = "kill"
"""SIGKILL for the process itself."""
STOP = "stop"
"""SIGSTOP for the process itself; the harness sends SIGCONT."""
TERM = "term"
"""SIGTERM for the process itself."""
RAISE = "raise"
"""An error of ours."""
ASK = "ask"
"""A line of JSON to a unix socket (a proxy's, the harness's); the process stands still until it is answered."""

ANY = "*"
"""In place of a reference: whichever order comes by first."""


@dataclass(frozen=True)
class Strike:
    """
    Attributes:
        reference: whose coming by it is, `order-<id>`, or ANY.
        name: by which it is counted.
        socket, say: where and what ASK asks.
        after_s: later, on the event loop. Under uvloop a request leaves at the end of the loop's round, so a kill at CALL_SENT
            would come before it. RAISE can't be put off.
    """

    reference: str
    point: Point
    do: str
    name: str
    socket: str = ""
    say: Mapping[str, Any] = field(default_factory=dict)
    after_s: float = 0

    @property
    def key(self) -> str:
        return f"{self.reference}.{self.point}.{self.name}".replace("/", "_")


@dataclass(frozen=True)
class Struck:
    """A strike that has happened: to whom, and in which process."""

    strike: Strike
    reference: str
    pid: int


class Plan:
    """
    What is to happen in a run, and what has. A folder: the strikes of all, and a note for each that was made.

    Processes read the plan as they start, so it is complete before they do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._notes = folder / "struck"
        self._file = folder / "strikes.jsonl"

    def write(self, strikes: Iterable[Strike]) -> None:
        self._notes.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as file:
            file.writelines(json.dumps(asdict(strike)) + "\n" for strike in strikes)

    def read(self) -> list[Strike]:
        said = [json.loads(line) for line in self._file.read_text().splitlines()]
        return [Strike(**one | {"point": Point(one["point"])}) for one in said]

    def note(self, strike: Strike, reference: str) -> bool:
        """False where another process, or an earlier call, has made this strike."""
        try:
            descriptor = os.open(self._notes / strike.key, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as file:
            file.write(json.dumps({"strike": asdict(strike), "reference": reference, "pid": os.getpid()}))
        return True

    def struck(self) -> list[Struck]:
        """All strikes made so far."""
        found = []
        for path in self._notes.iterdir():
            text = path.read_text()
            if not text:
                continue  # it is being written
            said = json.loads(text)
            strike = Strike(**said["strike"] | {"point": Point(said["strike"]["point"])})
            found.append(Struck(strike, said["reference"], said["pid"]))
        return found


def arm(plan: Plan) -> None:
    """From now on this process is struck as planned."""
    planned: dict[tuple[str, Point], list[Strike]] = {}
    for strike in plan.read():
        planned.setdefault((strike.reference, strike.point), []).append(strike)

    def reached(point: Point, reference: str) -> None:
        for strike in [*planned.pop((reference, point), ()), *planned.get((ANY, point), ())]:
            if strike.after_s:
                asyncio.get_running_loop().call_later(strike.after_s, _strike, plan, strike, reference)
            else:
                _strike(plan, strike, reference)

    failpoints.reached = reached


def _strike(plan: Plan, strike: Strike, reference: str) -> None:
    if not plan.note(strike, reference):
        return
    if strike.do == RAISE:
        raise RuntimeError(f"a test strikes at {strike.point}")
    if strike.do == ASK:
        ask(strike.socket, {**strike.say, "reference": reference, "pid": os.getpid()})
    else:
        kinds = {KILL: signal.SIGKILL, STOP: signal.SIGSTOP, TERM: signal.SIGTERM}
        os.kill(os.getpid(), kinds[strike.do])


def ask(path: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Asks and waits for the answer, all else of this process with it. {} where nobody answers any more."""
    with socket.socket(socket.AF_UNIX) as line, suppress(OSError, ValueError):
        line.settimeout(_ANSWER_WITHIN_S)
        line.connect(path)
        line.sendall(json.dumps(said).encode() + b"\n")
        with line.makefile("rb") as answers:
            answer = json.loads(answers.readline())
            assert isinstance(answer, dict)
            return answer
    return {}
