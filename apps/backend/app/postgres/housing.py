"""
Where the server's files lie and as whom it runs, so that it can reach them and no folder but its own changes.

The home is `postgres` in the data folder. Two things can be in root's way where the server has to run as another user,
and then something lies elsewhere: binaries that this user can't read are copied into the home; a home that it can't
reach moves to a folder of ours under /var/lib/tribi, and `postgres.elsewhere` in the data folder names it. Data stays
where it is and with whom it is, as long as that works.
"""

import hashlib
import os
import pwd
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.postgres.errors import EmbeddedPostgresError
from app.postgres.identity import Identity, another_name_for_us, nobody, ourselves
from app.postgres.places import Places


@dataclass(frozen=True)
class House:
    """
    home: exists, mode 0700, and all in it belongs to `identity`.
    bin_dir: binaries that `identity` can run.
    """

    home: Path
    identity: Identity
    bin_dir: Path


def home_of(places: Places, outside: Path) -> Path:
    """The data folder's home, made if missing; EmbeddedPostgresError where this user can't have it."""
    home = places.home
    if places.elsewhere.exists():
        home = Path(os.fsdecode(places.elsewhere.read_bytes().rstrip(b"\n")))
        if home.parent != outside or not home.is_dir():
            raise EmbeddedPostgresError(f"{places.elsewhere} names {home}, which is not there: bring it back")
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink():  # following it, root would change the owner of somebody else's files
        raise EmbeddedPostgresError(f"{home} must be a folder, not a link: set the data folder itself to its place")
    owner = home.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise EmbeddedPostgresError(f"the database in {home} belongs to user {_name(owner)}: run this as that user")
    return home


def settle(places: Places, home: Path, bin_dir: Path, *, may_use_namespace: bool, outside: Path) -> House:
    """
    Choose, and move, copy or hand over our own files as that takes. Nothing may be running on them.

    Args:
        home: of `home_of`.
        outside: parent folder of homes that can't be in the data folder; created if needed.

    Raises:
        EmbeddedPostgresError: nobody who may run a server can reach the data.
        OSError: for instance no space for a copy; the data is where it was.
    """
    if os.geteuid() != 0:
        return _ordinary_house(home, bin_dir, may_use_namespace=may_use_namespace)
    for identity in _candidates(home, may_use_namespace=may_use_namespace):
        if identity.can_run(bin_dir / "postgres", home):
            _hand_over(home, identity)
            return House(home, identity, bin_dir)
        if identity.can_reach(home):
            return _house_with_copy(home, identity, bin_dir)
    other = nobody()
    if other is not None and home == places.home:
        home = _home_outside(places, outside)
        if other.can_reach(home):
            _move(places, home)
            return _house_with_copy(home, other, bin_dir)
        home.rmdir()
    raise EmbeddedPostgresError(
        f"PostgreSQL refuses to run as root, and no other user can use {places.data_dir}: run this as an ordinary user"
    )


def _ordinary_house(home: Path, bin_dir: Path, *, may_use_namespace: bool) -> House:
    identity = ourselves()
    if not _has_name(identity.uid) and not (home / "data").exists():
        # initdb wants one, and `docker run --user 1234` gives none.
        alias = another_name_for_us() if may_use_namespace else None
        if alias is None or not alias.can_run(bin_dir / "postgres", home):
            raise EmbeddedPostgresError(f"initdb needs a name for user {identity.uid}: add one to /etc/passwd")
        identity = alias
    home.chmod(0o700)
    return House(home, identity, bin_dir)


def _candidates(home: Path, *, may_use_namespace: bool) -> Iterator[Identity]:
    """For root: whom to try, the best first."""
    owner = home.stat()
    if owner.st_uid != 0:
        yield Identity(owner.st_uid, owner.st_gid)
    alias = another_name_for_us() if may_use_namespace else None
    if alias is not None:
        yield alias
    other = nobody()
    if other is not None and other.uid != owner.st_uid:
        yield other


def _house_with_copy(home: Path, identity: Identity, bin_dir: Path) -> House:
    """With binaries of its own, made anew when the package has changed (41 MB, 0.1 s)."""
    package = bin_dir.parents[1]
    made = (bin_dir / "postgres").stat()
    software = home / f"software-{made.st_size}-{made.st_mtime_ns}"
    if not software.exists():
        for old in home.glob("software*"):
            shutil.rmtree(old)
        draft = home / "software.new"
        unused = shutil.ignore_patterns("include", "doc", "*.py", "__pycache__")
        shutil.copytree(package, draft / package.name, ignore=unused)
        libraries = package.with_name(package.name + ".libs")  # on Linux; the binaries look for them at ../../../
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name)
        _hand_over(draft, identity)
        draft.rename(software)
    _hand_over(home, identity)
    copied = software / bin_dir.relative_to(package.parent)
    if not identity.can_run(copied / "postgres", home):
        raise EmbeddedPostgresError(f"the database server's programs can't be run from {copied}: is it mounted noexec?")
    return House(home, identity, copied)


def _home_outside(places: Places, outside: Path) -> Path:
    """An empty one."""
    if not outside.exists():
        outside.mkdir(parents=True)
        outside.chmod(0o711)  # others may pass through, not look around
    home = outside / hashlib.sha256(os.fsencode(places.data_dir)).hexdigest()[:16]
    if home.exists():  # of an installation that was deleted, or of a move cut short: not ours to throw away
        home.rename(home.with_name(f"{home.name}.unused-{time.time_ns()}"))
    home.mkdir(mode=0o700)
    return home


def _move(places: Places, home: Path) -> None:
    """
    Copy what is in the data folder's home, then switch over by writing `elsewhere`.

    Interrupted anywhere, the data is complete where `elsewhere`, or its absence, says.
    """
    data = places.home / "data"
    if data.exists():
        shutil.copytree(data, home / "data", symlinks=True)
        os.sync()
    draft = places.elsewhere.with_name(places.elsewhere.name + ".new")
    draft.write_bytes(os.fsencode(home) + b"\n")
    draft.replace(places.elsewhere)
    os.sync()
    shutil.rmtree(places.home)


def _hand_over(folder: Path, identity: Identity) -> None:
    """Give a folder of ours and all in it to the server's user; the folder itself last, so that it tells when done."""
    now = folder.stat()
    if stat.S_IMODE(now.st_mode) != 0o700:
        folder.chmod(0o700)
    if now.st_uid == identity.uid:
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(parent, name), identity.uid, identity.gid, follow_symlinks=False)
    os.chown(folder, identity.uid, identity.gid)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _name(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name if _has_name(uid) else str(uid)
