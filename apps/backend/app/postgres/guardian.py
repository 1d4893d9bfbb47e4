"""
The process that owns the server: `lease.py` starts it, and it ends with the last client.

It has one thread, for the kernel's signal at the parent's death (identity.py) comes when the forking thread ends.
The package's docstring describes the protocol.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
import time
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from app.postgres.cluster import Cluster
from app.postgres.errors import EmbeddedPostgresError
from app.postgres.exchange import Order, Ready, announce, read
from app.postgres.housing import home_of, settle
from app.postgres.leftovers import clear
from app.postgres.places import Places, open_lock, try_lock, wait_for_lock
from app.postgres.sockets import choose_socket_dir, remove_socket_dir

_LOOK_S = 0.1  # how often it looks whether the last client has gone, or the server
_LOG_BYTES = 8 * 1024 * 1024
_STARTS = 5  # within _STARTS_S; a server that ends more often isn't helped by one more
_STARTS_S = 60.0
_OTHER_GUARDIAN_S = 1.0


class _Report:
    """The pipe to the client that started us, who may have been killed. Only the first line counts."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def send(self, line: str) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(BrokenPipeError):
                os.write(fd, line.encode(errors="replace"))
            os.close(fd)


class _EndSignal:
    """A signal handler that remembers."""

    def __init__(self) -> None:
        self._came = False

    def __call__(self, _kind: int, _frame: object) -> None:
        self._came = True

    def has_come(self) -> bool:
        return self._came


def main(argument: str) -> None:
    """Detach and guard; `argument` is an Order in JSON."""
    if os.fork():
        os._exit(0)  # so that the client isn't our parent, who would have to wait for us
    order = Order(*json.loads(argument))
    report = _Report(order.report_fd)
    for kind in (signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, signal.SIG_IGN)
    try:
        _guard(order, report)
    except EmbeddedPostgresError as error:
        _say(str(error))
        report.send(str(error))
    except OSError as error:
        traceback.print_exc()
        report.send(f"the database server can't use its files ({error}): put that right and start again")
    except Exception:
        report.send(f"the database server's guardian failed: see {Places(Path(order.data_dir)).log}")
        raise
    finally:
        # Not only by our end: a client that forked while it had the lock in hand may have left a copy in its child.
        fcntl.flock(order.guardian_fd, fcntl.LOCK_UN)


def _guard(order: Order, report: _Report) -> None:
    places = Places(Path(order.data_dir))
    clients_fd = open_lock(places.clients_lock)
    _limit(places.log)
    outside = Path(order.outside)
    home = home_of(places, outside)
    _reserve(home, places)
    clear(home, places.log)  # before anything is moved or changes hands
    house = settle(places, home, Path(order.bin_dir), may_use_namespace=order.may_use_namespace, outside=outside)
    if house.home != home:
        _reserve(house.home, places)
    left, _ = read(places.ready)
    announcement = choose_socket_dir(house.home, house.identity, left)
    cluster = Cluster(house.home, Path(announcement.socket_dir), house.bin_dir, house.identity, places.log)
    try:
        cluster.make()
        _serve(cluster, places, announcement, clients_fd, report)
    finally:
        remove_socket_dir(announcement)


def _reserve(home: Path, places: Places) -> None:
    """For as long as we live. A copied data folder's `elsewhere` names it too, and took our server for a stray one."""
    if not wait_for_lock(open_lock(home / "guardian.lock"), fcntl.LOCK_EX, _OTHER_GUARDIAN_S):
        raise EmbeddedPostgresError(
            f"{home} serves another data folder: remove {places.elsewhere} if this one is to begin empty"
        )


def _serve(cluster: Cluster, places: Places, announcement: Ready, clients_fd: int, report: _Report) -> None:
    """Until the last client has gone, or somebody ends us (SIGTERM: the machine shuts down)."""
    end = _EndSignal()
    signal.signal(signal.SIGTERM, end)
    starts: list[float] = []
    while not end.has_come():
        starts = [at for at in starts if at > time.monotonic() - _STARTS_S]
        if len(starts) == _STARTS:
            raise EmbeddedPostgresError(f"the database server ended {_STARTS} times in a minute: see {places.log}")
        starts.append(time.monotonic())
        server = cluster.start()
        ready_fd = None
        try:
            ready_fd = announce(places.ready, announcement)
            report.send("ready")
            while server.poll() is None:
                if end.has_come() or try_lock(clients_fd, fcntl.LOCK_EX):
                    return
                time.sleep(_LOOK_S)
                _limit(places.log)
        finally:
            # Before the server stops, so that nobody who comes now is sent to it.
            places.ready.unlink(missing_ok=True)
            if ready_fd is not None:
                os.close(ready_fd)
            cluster.stop(server)
        _say(f"the server ended by itself ({server.returncode}); starting it again for its clients")


def _say(line: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC [{os.getpid()}] guardian: {line}\n")
    sys.stderr.flush()


def _limit(log: Path) -> None:
    """Keep the log and one older part, some MB each; all who write to it append, so that it can be cut under them."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)
