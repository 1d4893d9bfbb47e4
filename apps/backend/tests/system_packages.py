"""Programs that tests need from the operating system: `make test` installs them where it may (scripts/system_packages.sh)."""

import os
import shutil
import subprocess
from pathlib import Path

_SCRIPT = Path(__file__).parents[3] / "scripts" / "system_packages.sh"
# Not every user's PATH has the folders of the administrator's programs.
_WHERE = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))


def the_command(name: str, *lists: str) -> str:
    """
    Its path. A test whose command is missing fails, and says how it is installed.

    Args:
        lists: the script's, which it is on: none is the tests'.
    """
    path = shutil.which(name, path=_WHERE)
    if path is None:
        told = subprocess.run([_SCRIPT, "--check", *lists], stderr=subprocess.PIPE, text=True).stderr
        raise FileNotFoundError(f"{name} is not installed. {told}")
    return path
