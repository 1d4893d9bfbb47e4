"""Where things lie in the data folder, and the locks on them."""

import errno
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

from app.postgres.errors import EmbeddedPostgresError

OUTSIDE = Path("/var/lib/tribi")
"""Parent of homes that can't be in the data folder (housing.py)."""

_POLL_S = 0.01


@dataclass(frozen=True)
class Places:
    """Everything of ours in one data folder (absolute, symlinks resolved)."""

    data_dir: Path

    @property
    def clients_lock(self) -> Path:
        """Held shared by every client, exclusively by a guardian that stops."""
        return self.data_dir / "postgres.clients.lock"

    @property
    def guardian_lock(self) -> Path:
        """Held exclusively by the guardian, and before it exists by the client that starts it."""
        return self.data_dir / "postgres.guardian.lock"

    @property
    def ready(self) -> Path:
        """Where the server listens; true only while the guardian that wrote it holds a lock on it (exchange.py)."""
        return self.data_dir / "postgres.ready"

    @property
    def log(self) -> Path:
        """What guardian, initdb and server have to say."""
        return self.data_dir / "postgres.log"

    @property
    def elsewhere(self) -> Path:
        """A text file with the absolute path of the server's home, if it isn't `home` (housing.py)."""
        return self.data_dir / "postgres.elsewhere"

    @property
    def home(self) -> Path:
        """The server's folder (cluster.py says what is in it), unless `elsewhere` names another."""
        return self.data_dir / "postgres"


def open_lock(path: Path) -> int:
    """A new file descriptor, close-on-exec so that no program we start prolongs the lock; OSError if refused."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def try_lock(fd: int, mode: int) -> bool:
    """
    Take the flock `mode` (LOCK_SH or LOCK_EX) without waiting.

    Returns:
        False where another open file holds it.

    Raises:
        EmbeddedPostgresError: the file system has no locks, without which two servers could write the same data.
    """
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise EmbeddedPostgresError(
            f"files in the data folder can't be locked ({error.strerror}): use a folder on a local disk"
        ) from error
    return True


def wait_for_lock(fd: int, mode: int, timeout_s: float) -> bool:
    """As `try_lock`, for at most `timeout_s`. Polls, since a blocking flock knows no time-out."""
    deadline = time.monotonic() + timeout_s
    while not try_lock(fd, mode):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
