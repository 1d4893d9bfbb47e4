"""Clients of an embedded server, as processes of their own, and a look at what they have left."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import psycopg

from app.postgres.leftovers import commands

BACKEND = Path(__file__).parents[2]
CLIENT = """
import sys
from pathlib import Path
from app.postgres import EmbeddedPostgresError, hold
try:
    lease = hold(Path(sys.argv[1]))
except EmbeddedPostgresError as error:
    sys.exit(f"refused: {error}")
print(lease.url, flush=True)
sys.stdin.read()
"""


def start_client(data_dir: Path, prelude: str = "") -> subprocess.Popen[str]:
    """One that holds the server until its stdin is closed or it is killed; it prints the URL when it has it."""
    return subprocess.Popen(
        [sys.executable, "-c", prelude + CLIENT, data_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=BACKEND,
    )


@contextmanager
def client(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL; ended with the block."""
    with start_client(data_dir) as process:
        try:
            yield process, url_from(process)
        finally:
            process.kill()


def url_from(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url, process.communicate()[1]
    return url


def query(url: str, statement: LiteralString) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def note(url: str) -> int:
    """Commit a new entry in the table `noted`."""
    [(entry,)] = query(url, "INSERT INTO noted SELECT max(entry) + 1 FROM noted RETURNING entry")
    assert isinstance(entry, int)
    return entry


def last_noted(url: str) -> object:
    return query(url, "SELECT max(entry) FROM noted")[0][0]


def can_query(url: str) -> bool:
    try:
        return query(url, "SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False


def wait_until(is_so: Callable[[], object], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def guardians(data_dir: Path) -> list[int]:
    found = commands().items()
    return [pid for pid, line in found if b"app.postgres.guardian" in line and b'"%s"' % os.fsencode(data_dir) in line]


def kill_guardian(data_dir: Path) -> None:
    """As kill -9 does, and wait until it is dead; until then the next client takes it for alive, as it is."""
    [guardian] = guardians(data_dir)
    os.kill(guardian, signal.SIGKILL)
    wait_until(lambda: not is_locked(data_dir / "postgres.guardian.lock"))


def postmasters(home: Path) -> list[int]:
    found = [pid for pid, line in commands().items() if b"postgres -D %s/data " % os.fsencode(home) in line]
    # A child has its parent's command line until it says what it does: on a busy machine that is seen.
    return found if len(found) < 2 else [pid for pid in found if _parent(pid) not in {*found, None}]


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[1])
    except OSError:  # it has ended meanwhile
        return None


def using(folder: Path) -> list[int]:
    """Processes with this path in their command line: clients, guardian, initdb, postmaster."""
    return [pid for pid, line in commands().items() if os.fsencode(folder) in line]


def is_locked(path: Path) -> bool:
    """Whether anybody else holds a lock on it."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def is_idle(data_dir: Path, home: Path | None = None) -> bool:
    """No guardian, and no process of the server."""
    home = home or data_dir / "postgres"
    return not is_locked(data_dir / "postgres.guardian.lock") and not is_locked(home / "server.lock")


def is_stopped(data_dir: Path, home: Path | None = None) -> bool:
    """Idle, after a clean stop: nothing says that there was a server."""
    home = home or data_dir / "postgres"
    traces = (data_dir / "postgres.ready", home / "data/postmaster.pid")
    return is_idle(data_dir, home) and not any(path.exists() for path in traces)


@contextmanager
def a_folder() -> Iterator[Path]:
    """A temporary folder that every user may pass through, which pytest's tmp_path isn't; nobody uses it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tribi-test-", dir=_memory())).resolve()
    folder.chmod(0o711)
    try:
        yield folder
        wait_until(lambda: not using(folder))
    finally:
        shutil.rmtree(folder)


def _memory() -> Path | None:
    """Where a disk in memory is roomy and runs programs: it spares a minute of fsync, and no kill -9 needs them."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of its own there
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 2 * 1024**3:
        return None
    return None if os.statvfs(memory).f_flag & os.ST_NOEXEC else memory
