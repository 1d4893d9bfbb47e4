"""Walks: the commands of a page of documentation, run as they stand but for the ports."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_START_S = 60
_WALK_S = 300


def walk_of(page: str, name: str = "") -> str:
    """
    The blocks of a page that stand behind `<!-- walk: … -->`, one after the other.

    Args:
        page: its path in the repository.
        name: of the walk, where a page has several: its first word.
    """
    blocks = re.findall(rf"<!-- walk: {name}.*?-->\n```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks, f"{page} has no walk {name}"
    return "".join(blocks)


@dataclass
class Clone:
    """A folder that looks like a clone of the repository after `make setup`, and the settings of whoever walks there."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "examples").symlink_to(ROOT / "examples")
        (self.folder / ".venv" / "bin").mkdir(parents=True)
        (self.folder / ".venv" / "bin" / "tribi").symlink_to(Path(sys.executable).with_name("tribi"))
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "TRIBI_ENV_FILE": os.devnull,
            "TRIBI_DATA_DIR": str(self.folder / "data"),
            **self.settings,
        }

    def walk(self, script: str) -> str:
        """What the commands say, the first failure of which ends them."""
        assert shutil.which("curl"), "this test needs curl: apt-get install -y curl"
        done = subprocess.run(
            ["bash", "-c", "set -eu\n" + script],
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=_WALK_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, script: str, url_in: Callable[[str], str | None]) -> Iterator[str]:
        """
        A terminal of its own; what runs there must end well when it is asked to.

        Args:
            script: its last command is the `tribi` that goes on.
            url_in: finds in what it says the address that it listens on.

        Yields:
            That address.
        """
        command, _, last = script.rstrip().rpartition("\n")
        log = self.folder / f"{last.split()[-1]}.log"
        with log.open("w") as stream:
            program = subprocess.Popen(
                ["bash", "-c", f"set -eu\n{command}\nexec {last} --port 0"],
                env=self._environment,
                cwd=self.folder,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            try:
                yield _said(log, url_in, program)
            finally:
                program.terminate()
                assert program.wait(30) == 0, log.read_text()


def _said(log: Path, url_in: Callable[[str], str | None], program: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and program.poll() is None:
        if url := url_in(log.read_text()):
            return url
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def url_of_server(log: str) -> str | None:
    started = [line for line in log.splitlines() if '"server.started"' in line]
    return str(json.loads(started[0])["url"]) if started else None


def url_of_sandbox(log: str) -> str | None:
    found = re.search(r"ConnectedYou sandbox on (http://\S+):", log)
    return found[1] if found else None
