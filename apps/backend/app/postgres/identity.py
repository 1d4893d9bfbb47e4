"""
As which user the server runs. PostgreSQL refuses uid 0, and initdb a uid without a name.

An ordinary user's server runs as that user. Root's runs as another name for root: in a user namespace the kernel
knows uid 0 as `nobody`, so that the files stay root's, and a folder of root's with mode 0700 above them doesn't
matter. Where the kernel refuses namespaces (most containers, macOS) it is `nobody` itself, or whoever owns the data.
"""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_IS_LINUX = sys.platform == "linux"
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Identity:
    """
    uid, gid: who owns the files as seen from outside, and whom the kernel asks for permission.
    inside: the (uid, gid) that the process sees in a user namespace of its own; None without one.
    """

    uid: int
    gid: int
    inside: tuple[int, int] | None = None

    def enter(self) -> None:
        """Become it, in a forked child; OSError where the kernel refuses."""
        if self.inside is not None:
            _enter_namespace(self.uid, self.gid, *self.inside)
        elif os.geteuid() != self.uid:
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)

    def preparation(self, death_signal: signal.Signals) -> Callable[[], None]:
        """For Popen's preexec_fn: enter, and have the kernel send `death_signal` when this process dies (Linux)."""
        parent = os.getpid()

        def prepare() -> None:
            self.enter()
            if _IS_LINUX:
                # After `enter`, since a change of credentials clears it.
                _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
                if os.getppid() != parent:  # it died before the line above
                    os._exit(1)

        return prepare

    def can_run(self, program: Path, home: Path) -> bool:
        """Whether it gets through the folders above `home`, and `program --version` runs."""
        return self._succeeds([program, "--version"], home)

    def can_reach(self, home: Path) -> bool:
        """Whether it gets through the folders above `home`, which exists."""
        return self._succeeds(["/bin/sh", "-c", ":"], home)

    def _succeeds(self, argv: list[str | Path], home: Path) -> bool:
        def prepare() -> None:
            self.enter()
            home.stat()

        try:
            done = subprocess.run(  # noqa: S603 - our own programs
                argv,
                preexec_fn=prepare,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return done.returncode == 0


def ourselves() -> Identity:
    """The user that runs this process."""
    return Identity(os.geteuid(), os.getegid())


def another_name_for_us() -> Identity | None:
    """We in a user namespace, under the name of `nobody`; None where this system has no namespaces or no such name."""
    alias = nobody()
    if not _IS_LINUX or alias is None:
        return None
    return Identity(os.geteuid(), os.getegid(), inside=(alias.uid, alias.gid))


def nobody() -> Identity | None:
    """The user `nobody`, or the first other user that isn't root; None where there is only root."""
    users = sorted((user for user in pwd.getpwall() if user.pw_uid != 0), key=lambda user: user.pw_name != "nobody")
    return Identity(users[0].pw_uid, users[0].pw_gid) if users else None


def _enter_namespace(uid: int, gid: int, inside_uid: int, inside_gid: int) -> None:
    if _LIBC.unshare(_CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    # The kernel wants setgroups denied before an unprivileged process may write gid_map: user_namespaces(7).
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside_uid} {uid} 1"),
        ("gid_map", f"{inside_gid} {gid} 1"),
    ):
        Path("/proc/self", name).write_text(line, "ascii")
