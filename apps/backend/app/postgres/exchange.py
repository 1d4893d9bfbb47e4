"""
What client and guardian tell each other: the client's order, and the ready file that the guardian writes for all.

The guardian holds an exclusive flock on the very ready file it wrote, taken before the file gets its name. So a file
that can be locked was left by a dead guardian, and no process id has to be trusted, which after a reboot may be
somebody else's.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import NamedTuple

from app.postgres.places import open_lock, try_lock


class Order(NamedTuple):
    """
    What the client asks of the guardian that it starts. Paths are absolute.

    guardian_fd: open on the guardian lock, locked.
    report_fd: a pipe to write "ready" to, or the one line that says why not.
    may_use_namespace, outside: as of `housing.settle`.
    """

    data_dir: str
    bin_dir: str
    guardian_fd: int
    report_fd: int
    may_use_namespace: bool
    outside: str


class Ready(NamedTuple):
    """
    socket_dir: absolute path of the folder with the server's socket.
    is_temporary: the folder was made for the socket alone, and goes with the server.
    """

    socket_dir: str
    is_temporary: bool


def announce(path: Path, ready: Ready) -> int:
    """Write the file atomically; returns the descriptor whose lock says that it is true. Close it to end that."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    fd = open_lock(draft)
    try_lock(fd, fcntl.LOCK_EX)
    os.write(fd, json.dumps(ready._asdict()).encode())
    draft.replace(path)
    return fd


def read(path: Path) -> tuple[Ready | None, bool]:
    """What the file says (None without a readable one), and whether a living guardian stands by it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None, False
    try:
        is_alive = not try_lock(fd, fcntl.LOCK_SH)
        try:
            ready = Ready(**json.loads(os.read(fd, 65536)))
        except (ValueError, TypeError):  # cut off by a full disk or a crash
            return None, False
        return ready, is_alive
    finally:
        os.close(fd)
