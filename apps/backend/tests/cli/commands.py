"""The `tribi` command as somebody types it: a process of its own."""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import typer

from app import cli

KEY = "dGVzdC1rZXktdGVzdC1rZXktdGVzdC1rZXktMDAwMDE="
TRIBI = [sys.executable, "-c", "from app.cli import main; main()"]
BACKEND = Path(__file__).resolve().parents[2]
_LIMIT_S = 60


def is_understood(words: list[str]) -> bool:
    """Whether `tribi` has such a command with such options; what their values mean is not looked at."""
    command = typer.main.get_command(cli.app)
    for word in words[1:]:
        if not hasattr(command, "commands"):
            break
        if word not in command.commands:
            return False
        command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts}
    return words[0] == "tribi" and {word for word in words if word.startswith("--")} <= known


def environment(database_url: str, **settings: str) -> dict[str, str]:
    """As if nothing else were set on this machine."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(BACKEND),
        "TRIBI_ENV_FILE": os.devnull,
        "DATABASE_URL": database_url,
        "ENCRYPTION_KEY": KEY,
        "ESIM_PROVIDER": "CONNECTED_YOU",
        "CONNECTED_YOU_PARTNER_ID": "partner-of-tests",
        **settings,
    }


def tribi(
    database_url: str,
    *arguments: str,
    given: bytes = b"",
    cwd: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Off a terminal. `given`: standard input. `settings`: besides those of `environment`, or in their place."""
    return _forks().run(arguments, environment(database_url) | dict(settings or {}), cwd or BACKEND, given)


class _Forks:
    """Who forks them (`tests.cli.forks`); it ends with us."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.forks", str(theirs.fileno())],
                cwd=BACKEND,
                env=environment(""),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._line.settimeout(_LIMIT_S)
        self._statuses = self._line.makefile("rb")
        atexit.register(self._end)

    def run(
        self, arguments: Sequence[str], variables: Mapping[str, str], cwd: Path, given: bytes
    ) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as folder:
            stdin, stdout, stderr = files = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
            stdin.write_bytes(given)
            for file in (stdout, stderr):
                file.touch()
            order = dict(zip(("stdin", "stdout", "stderr"), map(str, files), strict=True))
            order_line = json.dumps(order | {"arguments": arguments, "environment": dict(variables), "cwd": str(cwd)})
            self._line.sendall(order_line.encode() + b"\n")
            try:
                status = int(self._statuses.readline())
            except TimeoutError:
                _forks.cache_clear()  # the next one isn't to be told of this one's end
                raise
            return subprocess.CompletedProcess(
                arguments, status, stdout.read_bytes().decode(), stderr.read_bytes().decode()
            )

    def _end(self) -> None:
        self._statuses.close()
        self._line.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


_forks = cache(_Forks)
