"""Releases before this one: their code in a folder of its own, as their users had it, on the packages that are here."""

import io
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from app import schema
from app.settings import BACKEND_DIR

ROOT = BACKEND_DIR.parents[1]
_CODE = ("apps/backend/app", "apps/backend/migrations", "apps/backend/.env.example")


@dataclass(frozen=True)
class Release:
    """
    Attributes:
        commit: abbreviated.
        backend: its `apps/backend`; None for the working tree.
    """

    commit: str
    backend: Path | None

    @property
    def settings(self) -> dict[str, str]:
        """What makes `tribi` run this release's code."""
        return {} if self.backend is None else {"PYTHONPATH": str(self.backend)}

    def knows(self, setting: str) -> bool:
        backend = self.backend or BACKEND_DIR
        return f"{setting}=" in (backend / ".env.example").read_text()


NEWEST = Release("the working tree", None)


def before_the_newest_migration(folder: Path) -> Release:
    """The last commit whose schema was an older one, unpacked into a folder that is there."""
    [newest] = (schema.MIGRATIONS / "versions").glob(f"{schema.head()}_*.py")
    name = newest.relative_to(ROOT).as_posix()
    added = _git("log", "--format=%H", "--diff-filter=A", "--max-count=1", "--", name).decode().strip()
    parent = f"{added}~1" if added else "HEAD"  # nobody has committed it yet
    try:
        commit = _git("rev-parse", "--short=10", "--verify", "--quiet", f"{parent}^{{commit}}").decode().strip()
    except subprocess.CalledProcessError as error:
        raise FileNotFoundError(
            f"the commit before {newest.name} isn't in this clone, and the test needs its code: `git fetch --unshallow`"
        ) from error
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, *_CODE))) as archive:
        archive.extractall(folder, filter="data")
    return Release(commit, folder / "apps" / "backend")


def _git(*arguments: str) -> bytes:
    command = ["git", "-c", f"safe.directory={ROOT}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
