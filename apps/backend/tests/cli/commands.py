"""The `tribi` command as somebody types it: a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import typer

from app import cli

KEY = "dGVzdC1rZXktdGVzdC1rZXktdGVzdC1rZXktMDAwMDE="
TRIBI = [sys.executable, "-c", "from app.cli import main; main()"]
BACKEND = Path(__file__).resolve().parents[2]


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
    done = subprocess.run(
        [*TRIBI, *arguments],
        input=given,
        capture_output=True,
        env=environment(database_url) | dict(settings or {}),
        cwd=cwd or BACKEND,
        timeout=60,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
