"""
The yardstick of activations: PostgreSQL's own pgbench, with the statements of the same two transactions.

What an activation executes is overheard from the server (`statements.py`) and made into a script: each parameter that is the number
of its order, eSIM or attempt is computed, fingerprints are made unique, and all else stays as it was. It is as current as the code.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from app.postgres.lease import find_bin_dir
from app.queue import Job
from tests.bench.statements import Statement, transactions

EXPECTED = (
    ("SELECT orders FOR UPDATE", "SELECT provider_states", "WITH audit_log"),
    ("SELECT esim_profiles FOR UPDATE", "UPDATE esim_profiles", "WITH audit_log", "SELECT procrastinate_defer_jobs_v1"),
)
"""The two transactions of an activation. Whoever changes them changes this, and looks at the script."""

QUEUE = "bench.yardstick"
"""Where the yardstick's jobs lie: no worker looks into it."""

_FINGERPRINT = re.compile(r"\\x[0-9a-f]{32}")  # 16 bytes; what is sealed is longer
_PLACEHOLDER = re.compile(r"\$(\d+)")


class UnexpectedStatements(Exception):
    """An activation isn't what the yardstick was made for; `str()` has both."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of the activation that was overheard; each is found in no other value."""

    order_id: int
    profile_id: int
    attempt_id: int


@dataclass(frozen=True, slots=True)
class Script:
    """
    Attributes:
        text: takes orders from `:first` on; each of `:clients` clients its own.
        constants: what its other variables are.
    """

    text: str
    constants: dict[str, str]


def script_of(heard: Sequence[Statement], numbers: Numbers) -> Script:
    """
    Raises:
        UnexpectedStatements: the two transactions aren't `EXPECTED`.
    """
    pair = transactions(list(heard))
    shapes = tuple(tuple(statement.shape for statement in one) for one in pair)
    if shapes != EXPECTED:
        raise UnexpectedStatements(f"an activation's transactions are {shapes}, and were {EXPECTED}")
    lock = pair[0][0].text
    for column in ("profile_id", "new_attempt_id"):
        if not re.search(rf"\b{column}\b", lock):
            raise UnexpectedStatements(f"the first statement gives no {column}: {lock}")
    writer = _Writer(numbers)
    lines = [r"\set n :n + 1", r"\set order_id :first + :client_id + (:n - 1) * :clients"]
    for one in pair:
        lines.append("BEGIN;")
        for statement in one:
            ending = r" \gset" if statement is pair[0][0] else ";"
            lines.append(writer.written(statement) + ending)
        lines.append("COMMIT;")
    return Script("\n".join(lines) + "\n", writer.constants)


class _Writer:
    def __init__(self, numbers: Numbers) -> None:
        self.constants: dict[str, str] = {}
        self._variables = {
            str(numbers.order_id): ":order_id",
            str(numbers.profile_id): ":profile_id",
            str(numbers.attempt_id): ":new_attempt_id",
        }
        self._number = re.compile(rf"(?<!\d)({'|'.join(self._variables)})(?!\d)")
        self._fingerprints = 0

    def written(self, statement: Statement) -> str:
        is_job = "procrastinate_defer" in statement.text
        given = [QUEUE if is_job and value == Job.ESIM_PROVISIONED else value for value in statement.parameters]
        values = [self._value(value) for value in given]
        # One line: a line break would end pgbench's command where \gset follows.
        text = " ".join(statement.text.split())
        return _PLACEHOLDER.sub(lambda found: values[int(found[1]) - 1], text)

    def _value(self, value: str | None) -> str:
        if not value:
            return "NULL" if value is None else "''"  # pgbench has no empty variables
        if value in self._variables:
            return self._variables[value]
        if _FINGERPRINT.fullmatch(value):
            self._fingerprints += 1
            return f"decode(md5('{self._fingerprints}/' || :order_id::text), 'hex')"
        if self._number.search(value) and not value.startswith("\\x"):
            parts = self._number.split(value)
            shown = [
                f"{self._variables[part] if nth % 2 else self._constant(part)}::text"
                for nth, part in enumerate(parts)
                if part
            ]
            return f"({' || '.join(shown)})"
        return self._constant(value)

    def _constant(self, value: str) -> str:
        name = next((name for name, known in self.constants.items() if known == value), f"c{len(self.constants) + 1}")
        self.constants[name] = value
        return f":{name}"


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What pgbench did."""

    transactions: int
    per_second: float


async def run_pgbench(
    database_url: str, script: Script, folder: Path, *, first: int, clients: int, seconds: float, protocol: str
) -> Yardstick:
    """
    As many activations as go, without a provider between the two transactions.

    Args:
        first: the number of the first order of those that it may take.
        clients: connections, each with one activation under way.
        protocol: pgbench's `-M`: extended has each statement parsed anew, as psycopg does unless it is told to prepare.

    Raises:
        RuntimeError: one failed; an order may be missing.
    """
    file = folder / "activation.sql"
    file.write_text(script.text, "utf-8")
    parts = conninfo_to_dict(database_url)
    variables = script.constants | {"n": "0", "first": str(first), "clients": str(clients)}
    process = await asyncio.create_subprocess_exec(
        find_bin_dir("pgbench") / "pgbench", "--no-vacuum", f"--protocol={protocol}", f"--file={file}",
        f"--client={clients}", f"--time={max(1, round(seconds))}", "--jobs=1",
        *(f"--define={name}={value}" for name, value in variables.items()),
        f"--host={parts['host']}", f"--port={parts['port']}", f"--username={parts['user']}", str(parts["dbname"]),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complaints = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"pgbench ended with {process.returncode}: {complaints.decode(errors='replace')[-1500:]}")
    return read_pgbench(said.decode())


def read_pgbench(said: str) -> Yardstick:
    """From what pgbench says at its end."""
    done = re.search(r"number of transactions actually processed: (\d+)", said)
    rate = re.search(r"tps = ([\d.]+)", said)
    if done is None or rate is None or "number of failed transactions: 0 " not in said:
        raise RuntimeError(f"pgbench says: {said[-500:]}")
    return Yardstick(int(done[1]), float(rate[1]))
