"""A server is there while anybody holds it, one for all, and not a moment longer."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from app.postgres import Lease, hold
from tests.postgres.clients import (
    BACKEND,
    client,
    guardians,
    is_stopped,
    note,
    postmasters,
    query,
    start_client,
    url_from,
    wait_until,
)


def test_the_first_hold_makes_a_database_that_is_safe_and_private(folder: Path) -> None:
    data_dir = folder / "not yet there" / "data"
    with hold(data_dir) as server:
        settings = {row[0]: row[1] for row in query(server.url, "SELECT name, setting FROM pg_settings")}
        about = query(
            server.url,
            "SELECT current_database()::text, current_user::text, pg_encoding_to_char(encoding)::text,"
            " datlocprovider::text, datlocale, lower('ÄÖ') FROM pg_database WHERE datname = current_database()",
        )
        tools = [server.bin_dir / name for name in ("psql", "pg_dump", "pgbench")]
    assert about == [("tribi", "tribi", "UTF8", "b", "C.UTF-8", "äö")]
    assert all(os.access(tool, os.X_OK) for tool in tools)
    for name in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums"):
        assert settings[name] == "on", name
    assert (settings["listen_addresses"], settings["unix_socket_permissions"]) == ("", "0700")
    assert (settings["TimeZone"], settings["log_timezone"]) == ("UTC", "UTC")
    wait_until(lambda: is_stopped(data_dir))
    ours = [path for path in data_dir.rglob("*") if path.is_dir() or path.is_file()]
    assert not [path for path in ours if path.stat().st_mode & 0o077]


def test_processes_share_one_server_and_the_last_one_out_stops_it(data_dir: Path) -> None:
    with client(data_dir) as (first, url), client(data_dir) as (second, other_url):
        assert url == other_url
        first.communicate()  # closes its stdin, at which it ends
        with hold(data_dir) as server:
            assert query(server.url, "SELECT min(entry) FROM noted") == [(7,)]
        assert len(postmasters(data_dir / "postgres")) == 1
        second.communicate()
        wait_until(lambda: is_stopped(data_dir))


def test_the_server_goes_when_its_last_client_is_killed_and_a_program_it_started_lives_on(data_dir: Path) -> None:
    code = (
        "import subprocess, sys, time\nfrom pathlib import Path\nfrom app.postgres import hold\n"
        "lease = hold(Path(sys.argv[1]))\n"
        "child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, data_dir], cwd=BACKEND, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        try:
            wait_until(lambda: is_stopped(data_dir))
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_client_killed_while_the_server_starts_leaves_nothing(folder: Path) -> None:
    with start_client(folder / "data") as process:
        wait_until(lambda: (folder / "data/postgres/data.new").exists())
        process.kill()
    wait_until(lambda: (folder / "data/postgres/data").exists())
    wait_until(lambda: is_stopped(folder / "data"))


def test_control_c_in_the_terminal_does_not_reach_the_server(data_dir: Path) -> None:
    with client(data_dir) as (first, url):
        groups = {os.getpgid(pid) for pid in guardians(data_dir) + postmasters(data_dir / "postgres")}
        sessions = {os.getsid(pid) for pid in guardians(data_dir) + postmasters(data_dir / "postgres")}
        assert os.getpgid(first.pid) not in groups
        assert os.getsid(first.pid) not in sessions
        with hold(data_dir):
            first.send_signal(signal.SIGINT)
            first.wait()
            assert query(url, "SELECT 1") == [(1,)]


def test_twenty_processes_that_come_at_once_get_one_server(data_dir: Path) -> None:
    processes = [start_client(data_dir) for _ in range(20)]
    try:
        assert len({url_from(process) for process in processes}) == 1
        assert len(guardians(data_dir)) == 1
        assert len(postmasters(data_dir / "postgres")) == 1
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    wait_until(lambda: is_stopped(data_dir))


def test_holding_and_letting_go_again_and_again_never_fails(data_dir: Path) -> None:
    """The pauses let a hold come before, while and after the guardian stops the server."""
    for turn in range(30):
        with hold(data_dir) as server:
            assert query(server.url, "SELECT min(entry) FROM noted") == [(7,)]
        threading.Event().wait(turn % 6 * 0.04)


def test_a_lease_may_be_taken_and_released_in_any_thread(data_dir: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        leases: list[Lease] = list(pool.map(hold, [data_dir] * 8))
    # The threads have ended, and with them anything that hung on them.
    assert query(leases[0].url, "SELECT 1") == [(1,)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Lease.release, leases))
    leases[0].release()
    wait_until(lambda: is_stopped(data_dir))


def test_a_forked_child_that_lets_go_leaves_its_parents_lease_alone(data_dir: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom app.postgres import hold\n"
        "lease = hold(Path(sys.argv[1]))\npid = os.fork()\n"
        "if not pid:\n    lease.release()\n    os._exit(0)\n"
        "os.waitpid(pid, 0)\nprint(lease.url, flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, data_dir],
        cwd=BACKEND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        url = url_from(process)
        threading.Event().wait(0.3)  # three looks of the guardian
        assert query(url, "SELECT 1") == [(1,)]
        process.communicate()
    wait_until(lambda: is_stopped(data_dir))


def test_two_data_folders_have_two_servers(data_dir: Path, folder: Path) -> None:
    other = shutil.copytree(data_dir, folder / "other")
    with hold(data_dir) as one, hold(other) as two:
        assert one.url != two.url
        query(two.url, "DROP TABLE noted")
        assert note(one.url)


def test_sqlalchemy_takes_the_url_whatever_pgport_says(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    with hold(data_dir) as server:
        engine = create_engine(server.url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect() as connection:
            assert connection.execute(text("SELECT min(entry) FROM noted")).scalar() == 7
        engine.dispose()


def test_neither_our_environment_nor_customers_data_reach_server_or_log(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIBI_SECRET", "from-our-environment")
    with hold(data_dir) as server:
        query(server.url, "DROP TABLE IF EXISTS person")
        query(server.url, "CREATE TABLE person (email text PRIMARY KEY)")
        query(server.url, "INSERT INTO person VALUES ('a@example.com')")
        with pytest.raises(Exception, match="duplicate key"):
            query(server.url, "INSERT INTO person VALUES ('a@example.com')")
        pids = guardians(data_dir) + postmasters(data_dir / "postgres")
        if Path("/proc/self/environ").exists():
            assert not [pid for pid in pids if b"from-our-environment" in Path(f"/proc/{pid}/environ").read_bytes()]
    log = (data_dir / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "a@example.com" not in log


def test_the_log_is_kept_short(data_dir: Path) -> None:
    (data_dir / "postgres.log").write_bytes(b"x" * (9 * 1024 * 1024))
    with hold(data_dir):
        wait_until((data_dir / "postgres.log.1").exists)
    assert (data_dir / "postgres.log").stat().st_size < 100_000
    assert (data_dir / "postgres.log.1").stat().st_size == 9 * 1024 * 1024


def test_the_room_is_quick_to_import_and_brings_no_driver() -> None:
    code = (
        "import sys, app.postgres; print([name for name in ('psycopg', 'sqlalchemy', 'ctypes') if name in sys.modules])"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=BACKEND, text=True)
    assert printed.strip() == "[]"
