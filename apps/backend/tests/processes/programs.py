"""The product as its users run it: `tribi` commands as child processes, with settings from their environment alone."""

import asyncio
import inspect
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

TRIBI = Path(sys.executable).with_name("tribi")
LIMIT_S = 120.0
"""Until when what is waited for has to come about. Long: a machine with four times its work ended a server in more than thirty."""

_OF_THE_SYSTEM = ("PATH", "HOME", "LANG", "TZ", "LD_LIBRARY_PATH")

Settings = dict[str, str]


async def until(is_so: Callable[[], object], limit_s: float = LIMIT_S) -> Any:
    """Looks 50 times a second, and returns what it saw once that is true. `is_so` may be a coroutine function."""
    deadline = time.monotonic() + limit_s
    while True:
        seen = is_so()
        if inspect.isawaitable(seen):
            seen = await seen
        if seen:
            return seen
        assert time.monotonic() < deadline, f"not within {limit_s} s: {inspect.getsource(is_so).strip()}"
        await asyncio.sleep(0.02)


def environment(folder: Path, settings: Settings) -> Settings:
    system = {name: os.environ[name] for name in _OF_THE_SYSTEM if name in os.environ}
    return system | {"TRIBI_ENV_FILE": os.devnull, "TMPDIR": str(folder)} | settings


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def complaints(self) -> list[str]:
        return self.stderr.splitlines()


async def run(folder: Path, settings: Settings, *arguments: str, wrapped_in: Sequence[str] = ()) -> Done:
    """A command that ends by itself. `wrapped_in`: what stands before it on the command line."""
    process = await asyncio.create_subprocess_exec(
        *wrapped_in,
        TRIBI,
        *arguments,
        cwd=folder,
        env=environment(folder, settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise
    assert process.returncode is not None
    return Done(process.returncode, stdout.decode(), stderr.decode())


class Process(Protocol):
    """What is wanted of a `subprocess.Popen`."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...

    def send_signal(self, kind: int, /) -> None: ...


class Program:
    """A command that runs until it is asked to end. It leads a group of processes, so that none outlives its test."""

    _process: Process

    def __init__(
        self, folder: Path, log: Path, settings: Settings, *arguments: str, wrapped_in: Sequence[str] = ()
    ) -> None:
        self.log = log
        with log.open("ab") as stream:
            self._process = self._child = subprocess.Popen(
                [*wrapped_in, TRIBI, *arguments],
                cwd=folder,
                env=environment(folder, settings),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it has logged under this name."""
        return [event for event in self._logged() if event["event"] == name]

    def errors(self) -> list[dict[str, Any]]:
        """What it has logged as an error or worse."""
        return [event for event in self._logged() if event["level"] in {"error", "critical"}]

    def _logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def send(self, kind: signal.Signals) -> None:
        self._process.send_signal(kind)

    def children(self) -> list[int]:
        """Its workers, where it has some."""
        listing = subprocess.run(
            ["/bin/ps", "-axo", "pid=,ppid="], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        pairs = (line.split() for line in listing.splitlines())
        return [int(pid) for pid, parent in pairs if int(parent) == self.pid]

    async def ended(self, limit_s: float = LIMIT_S) -> int:
        """Waits; returns the exit status, or the negative number of the signal that killed it."""
        await until(lambda: not self.is_running, limit_s)
        assert self._process.returncode is not None
        return self._process.returncode

    async def kill(self) -> None:
        """kill -9, and no word of it before that."""
        self.send(signal.SIGKILL)
        await self.ended()

    def clear_away(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()


def a_free_port() -> int:
    """Below those that the system gives to outgoing connections (Linux: from 32768), which might take it before the server does."""
    while True:
        port = secrets.randbelow(10_000) + 20_000
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
