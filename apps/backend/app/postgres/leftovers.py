"""
What an earlier server of a home left running is found and stopped: a server whose guardian was killed (macOS; on Linux
it is on its way out), or backends that are too busy to notice that their postmaster was killed.
"""

import fcntl
import hashlib
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from app.postgres.errors import EmbeddedPostgresError
from app.postgres.places import open_lock, try_lock, wait_for_lock

# A clean stop may have to write all of shared_buffers to a slow disk.
STOP_STEPS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
"""Signals to a postmaster, and for how many seconds to wait on each: cleanly, at once, by force."""

_BACKENDS_LEAVE_S = 1.0


def server_lock(home: Path) -> Path:
    """The file that is locked while any process of the home's server lives, see cluster.py."""
    return home / "server.lock"


def name_of(home: Path) -> str:
    """cluster_name of the home's server, to find its processes by; a home in another container has another."""
    found = home.stat()
    key = b"%d %d %s" % (found.st_dev, found.st_ino, os.fsencode(home))
    return f"tribi-{hashlib.sha256(key).hexdigest()[:16]}"


def clear(home: Path, log: Path) -> None:
    """
    See to it that no process uses the home's data.

    Raises:
        EmbeddedPostgresError: one doesn't end, or somebody runs a server on this data by hand.
    """
    lock_fd = open_lock(server_lock(home))
    try:
        if try_lock(lock_fd, fcntl.LOCK_EX):
            _refuse_foreign_server(home / "data")
            return
        for kind, timeout_s in STOP_STEPS:
            postmasters, backends = _processes(name_of(home))
            if postmasters:
                _send(postmasters, kind)
            elif not wait_for_lock(lock_fd, fcntl.LOCK_EX, _BACKENDS_LEAVE_S):
                # Without their postmaster the server has crashed anyway; recovery doesn't depend on how they end.
                _send(backends, signal.SIGKILL)
            if wait_for_lock(lock_fd, fcntl.LOCK_EX, timeout_s):
                return
    finally:
        os.close(lock_fd)
    raise EmbeddedPostgresError(f"an earlier database server on {home} doesn't stop: see {log}")


def _processes(name: str) -> tuple[list[int], list[int]]:
    """Process ids of the postmaster, and of its children."""
    backend = b"postgres: %s: " % name.encode()
    postmaster = b"--cluster_name=%s" % name.encode()
    running = commands()
    return (
        [pid for pid, command in running.items() if postmaster in command and not command.startswith(backend)],
        [pid for pid, command in running.items() if command.startswith(backend)],
    )


def commands() -> dict[int, bytes]:
    """
    Process id to command line (arguments separated by a space), of every process that we may see.

    A child of the postmaster has "postgres: <cluster_name>: what it does" in place of it.
    """
    if not Path("/proc/self/cmdline").exists():  # macOS
        listing = subprocess.run(
            ["/bin/ps", "-axww", "-o", "pid=,command="], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True
        ).stdout
        pairs = (line.strip().partition(b" ") for line in listing.splitlines())
        return {int(pid): command for pid, _, command in pairs}
    found = {}
    for folder in os.scandir("/proc"):
        if folder.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                found[int(folder.name)] = Path(folder.path, "cmdline").read_bytes().replace(b"\0", b" ").strip()
    return found


def _refuse_foreign_server(data: Path) -> None:
    """With server.lock free no server of ours lives; postmaster.pid is stale, or of one started by hand."""
    try:
        pid = int((data / "postmaster.pid").read_bytes().split(b"\n")[0])
    except (OSError, ValueError):
        return
    command = commands().get(pid, b"")
    if b"postgres" in command and os.fsencode(data) in command:
        raise EmbeddedPostgresError(f"process {pid} runs a database server of its own on {data}: stop it")


def _send(pids: list[int], kind: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, kind)
