"""Whatever is killed, the next hold has a server with all that was committed, and nothing is left running."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from app.postgres import hold
from app.postgres.leftovers import commands, name_of
from tests.postgres.clients import (
    can_query,
    client,
    guardians,
    is_idle,
    is_locked,
    is_stopped,
    kill_guardian,
    last_noted,
    note,
    postmasters,
    query,
    start_client,
    wait_until,
)

_BUSY = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE query LIKE '%generate_series%' AND state = 'active' AND pid <> pg_backend_pid()"
)


def backends(home: Path) -> list[int]:
    return [pid for pid, line in commands().items() if line.startswith(b"postgres: %s: " % name_of(home).encode())]


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # a backend whose work was done
            os.kill(pid, signal.SIGKILL)


# Elsewhere (macOS) it outlives its guardian until the next command: `test_an_orphaned_server_…` below holds that everywhere.
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_with_the_guardian_killed_the_server_goes_too(data_dir: Path) -> None:
    with hold(data_dir):
        kill_guardian(data_dir)
        wait_until(lambda: not is_locked(data_dir / "postgres/server.lock"))
        assert not postmasters(data_dir / "postgres")


def test_with_the_guardian_killed_the_next_hold_has_the_data_at_the_same_url(data_dir: Path) -> None:
    with hold(data_dir) as before:
        entry = note(before.url)
        kill_guardian(data_dir)
        with hold(data_dir) as server:
            assert last_noted(server.url) == entry
            assert server.url == before.url
            assert len(postmasters(data_dir / "postgres")) == 1
    wait_until(lambda: is_stopped(data_dir))


def test_an_orphaned_server_is_stopped_before_the_next_one_starts(data_dir: Path) -> None:
    """What macOS leaves; here the server is stopped (SIGSTOP) so that it doesn't act on its parent's death yet."""
    with hold(data_dir) as server:
        entry = note(server.url)
        [orphan] = postmasters(data_dir / "postgres")
        os.kill(orphan, signal.SIGSTOP)
        kill_guardian(data_dir)
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(hold, data_dir)
            wait_until(lambda: guardians(data_dir))
            assert not late.done()
            os.kill(orphan, signal.SIGCONT)
            with late.result() as again:
                assert last_noted(again.url) == entry
                assert orphan not in postmasters(data_dir / "postgres")


def test_a_killed_server_is_started_again_for_its_clients_though_a_backend_is_too_busy_to_notice(
    data_dir: Path,
) -> None:
    home = data_dir / "postgres"
    with hold(data_dir) as server, ThreadPoolExecutor(1) as pool:
        entry = note(server.url)
        busy = pool.submit(query, server.url, "SELECT sum(1) OVER () FROM generate_series(1, 1000000000000)")
        wait_until(lambda: query(server.url, _BUSY))
        old = postmasters(home)
        kill(old)
        with pytest.raises(psycopg.OperationalError):
            busy.result()
        wait_until(lambda: can_query(server.url))
        assert last_noted(server.url) == entry
        assert postmasters(home) != old
        assert len(postmasters(home)) == 1


def test_a_killed_backend_does_not_take_the_server_from_its_clients(data_dir: Path) -> None:
    with hold(data_dir) as server:
        with psycopg.connect(server.url) as connection:
            kill([connection.info.backend_pid])
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        wait_until(lambda: can_query(server.url))


def test_with_everything_killed_the_next_hold_recovers(data_dir: Path) -> None:
    with client(data_dir) as (process, url):
        entry = note(url)
        kill([process.pid, *guardians(data_dir), *postmasters(data_dir / "postgres"), *backends(data_dir / "postgres")])
        wait_until(lambda: is_idle(data_dir))
    assert (data_dir / "postgres.ready").exists()
    assert (data_dir / "postgres/data/postmaster.pid").exists()
    with hold(data_dir) as server:
        assert last_noted(server.url) == entry
    wait_until(lambda: is_stopped(data_dir))


def test_files_of_a_server_before_the_reboot_name_processes_that_are_somebody_elses_now(data_dir: Path) -> None:
    home = data_dir / "postgres"
    with subprocess.Popen(["sleep", "600"]) as stranger:
        lines = [stranger.pid, home / "data", 1700000000, 5432, home, "", "  1234567  7", "ready   "]
        for path in (home / "data/postmaster.pid", home / ".s.PGSQL.5432.lock"):
            path.write_text("".join(f"{line}\n" for line in lines))
        (data_dir / "postgres.ready").write_text(json.dumps({"socket_dir": "/nowhere", "is_temporary": False}))
        with hold(data_dir) as server:
            assert can_query(server.url)
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("left", ["", "{", "[]", '{"socket_dir": 7, "more": 1}'])
def test_a_ready_file_that_makes_no_sense_is_in_nobodys_way(data_dir: Path, left: str) -> None:
    (data_dir / "postgres.ready").write_text(left)
    with hold(data_dir) as server:
        assert can_query(server.url)


def test_a_database_half_made_is_made_anew(folder: Path) -> None:
    data_dir = folder / "data"
    with start_client(data_dir) as process:
        wait_until(lambda: (data_dir / "postgres/data.new/PG_VERSION").exists())
        process.kill()
        kill_guardian(data_dir)
    with hold(data_dir) as server:
        assert query(server.url, "SELECT current_database()::text") == [("tribi",)]
    assert not (data_dir / "postgres/data.new").exists()


def test_a_client_that_waits_for_a_starter_that_is_killed_starts_the_server_itself(data_dir: Path) -> None:
    code = (
        "import fcntl, sys, time\nfile = open(sys.argv[1], 'r+b')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "print(flush=True)\ntime.sleep(600)\n"
    )
    with (
        subprocess.Popen(
            [sys.executable, "-c", code, data_dir / "postgres.guardian.lock"], stdout=subprocess.PIPE
        ) as starter,
        ThreadPoolExecutor(1) as pool,
    ):
        assert starter.stdout is not None
        starter.stdout.readline()
        late = pool.submit(hold, data_dir)
        wait_until(lambda: is_locked_shared(data_dir / "postgres.clients.lock"))
        assert not late.done()
        starter.kill()
        with late.result() as server:
            assert can_query(server.url)


def is_locked_shared(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_copied_data_folder_is_another_database(own_data_dir: Path, data_dir: Path) -> None:
    with hold(data_dir) as server:
        entry = note(server.url)
        with hold(own_data_dir) as copy:
            query(copy.url, "DROP TABLE noted")
            assert last_noted(server.url) == entry


def test_when_the_machine_shuts_down_the_server_stops_though_there_are_clients(data_dir: Path) -> None:
    with hold(data_dir):
        [guardian] = guardians(data_dir)
        os.kill(guardian, signal.SIGTERM)
        wait_until(lambda: is_stopped(data_dir))
        assert "database system is shut down" in (data_dir / "postgres.log").read_text().splitlines()[-1]
