"""Programs that tests need from the operating system: `make test` installs them where it may (scripts/system_packages.sh)."""

import os
import shutil
import subprocess
from pathlib import Path

_SCRIPT = Path(__file__).parents[3] / "scripts" / "system_packages.sh"
_WHERE = os.pathsep.join(
    (os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin")
)  # not every user's PATH has them


def the_command(name: str) -> str:
    """Its path. A test whose command is missing fails, and says how it is installed."""
    path = shutil.which(name, path=_WHERE)
    assert path is not None, subprocess.run([_SCRIPT, "--check"], stderr=subprocess.PIPE, text=True).stderr
    return path
