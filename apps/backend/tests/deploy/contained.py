"""
The image's conditions without a container engine: a root file system of its own that nobody may write to, the image's user without
any capability, its environment and its two volumes.

The root is put together in a mount namespace out of this machine's folders, each read-only. It goes with its last process.
"""

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.dockerfile import ROOT, stages
from tests.system_packages import the_command

_OF_THE_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc", "/dev")
_TMP = "/tmp"  # noqa: S108 - the container's own


@dataclass(frozen=True)
class Container:
    """
    Attributes:
        folder: for what it needs outside; `volume` says where a volume lies.
        shared: folders of this machine that its processes may use, at their own places.
    """

    folder: Path
    shared: tuple[Path, ...]

    def volume(self, place: str) -> Path:
        return self.folder / place.strip("/").replace("/", "_")

    @property
    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in _IMAGE.environment().items() if name != "PATH"}
        return own | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "TMPDIR": _TMP, "HOME": "/nonexistent"}

    def wrapped(self) -> list[str]:
        """What stands before a command line, so that it runs inside; the process is the command's own."""
        uid, gid = (int(number) for number in _IMAGE.all("USER")[0].split(":"))
        root = self.folder / "root"
        root.mkdir(exist_ok=True)
        is_root = os.geteuid() == 0
        script = [f"mount -t tmpfs -o mode=755 none {root}", f"mkdir -p {root}{_TMP}"]
        script += [f"mount -t tmpfs -o mode=1777 none {root}{_TMP}"]  # before all else: the clone may lie in it
        kept = {path for path in map(Path, (*_OF_THE_SYSTEM, sys.base_prefix, str(ROOT))) if path.exists()}
        for path in sorted(kept):
            if path.is_symlink():
                script.append(f"ln -s {path.readlink()} {root}{path}")
            elif not any(path.is_relative_to(other) for other in kept - {path}):
                script += [f"mkdir -p {root}{path}", f"mount --rbind {path} {root}{path}"]
                script += (
                    [f"mount -o remount,bind,ro {root}{path}"] if path not in {Path("/proc"), Path("/dev")} else []
                )
        volumes = {place: self.volume(place) for place in _volumes()}
        for place, outside in (volumes | {str(path): path for path in self.shared}).items():
            if place in volumes and not outside.exists():
                outside.mkdir(mode=0o700)
                os.chown(outside, uid if is_root else -1, gid if is_root else -1)
            script += [f"mkdir -p {root}{place}", f"mount --bind {outside} {root}{place}"]
        script += [f"mount -o remount,ro {root}", 'exec "$@"']
        spaces = [] if is_root else ["--user", "--map-root-user"]
        identity = ["--reuid", str(uid), "--regid", str(gid), "--clear-groups"] if is_root else []
        drop = [the_command("setpriv"), *identity, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
        inside = [the_command("chroot"), str(root), *drop]
        return [the_command("unshare"), *spaces, "--mount", "/bin/sh", "-euc", "\n".join(script), "sh", *inside]


_IMAGE = stages()[-1]


def _volumes() -> list[str]:
    """The folders that the image makes for its user."""
    [make] = [step for step in _IMAGE.all("RUN") if "install -d" in step]
    return [word for word in shlex.split(make) if word.startswith("/var/lib/")]
