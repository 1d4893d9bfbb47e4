"""
Where the server's socket lies: in its home, or where the path is too long for one in a temporary folder of its own.
"""

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from app.postgres.cluster import SOCKET
from app.postgres.errors import EmbeddedPostgresError
from app.postgres.exchange import Ready
from app.postgres.identity import Identity

_LONGEST = 103 if sys.platform == "darwin" else 107  # bytes: sun_path in unix(7), less the NUL
_PREFIX = "tribi-"


def choose_socket_dir(home: Path, identity: Identity, left: Ready | None) -> Ready:
    """
    Args:
        home: of the server.
        left: what a guardian announced that was killed. Its temporary folder is used again: clients know its path.

    Returns:
        A folder with mode 0700 that belongs to `identity`.
    """
    if left is not None and left.is_temporary:
        if _is_ours(left.socket_dir, identity):
            return left
        remove_socket_dir(left)
    if _fits(home) and "," not in str(home):  # a comma would separate two hosts in the URL
        return Ready(str(home), is_temporary=False)
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes a folder of its own there
        if _fits(Path(parent, _PREFIX + 8 * "x")) and "," not in parent and identity.can_reach(Path(parent)):
            made = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
            if os.geteuid() != identity.uid:
                os.chown(made, identity.uid, identity.gid)
            return Ready(made, is_temporary=True)
    raise EmbeddedPostgresError(f"the path of {home} is too long for a socket, and /tmp can't be used: shorten it")


def remove_socket_dir(ready: Ready) -> None:
    """Remove a temporary one, of which nothing but the socket's files is ours to delete; leave any other alone."""
    if ready.is_temporary and Path(ready.socket_dir).name.startswith(_PREFIX):
        with suppress(OSError):
            for name in (SOCKET, f"{SOCKET}.lock"):
                Path(ready.socket_dir, name).unlink(missing_ok=True)
            Path(ready.socket_dir).rmdir()


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / SOCKET)) <= _LONGEST


def _is_ours(folder: str, identity: Identity) -> bool:
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    is_private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    return is_private and found.st_uid == identity.uid and Path(folder).name.startswith(_PREFIX)
