#!/bin/sh
# Programs that the tests need from the operating system: scripts/system_packages.sh [--check] [bench]
# With bench: those that the benchmarks need. Installs those that are missing where it may (root on Debian or Ubuntu), and does nothing where all are there. Elsewhere, and with
# --check, it ends with one sentence that names the one command.
set -eu

PATH=$PATH:/usr/sbin:/usr/local/sbin
has() { command -v "$1" >/dev/null 2>&1; }

check=
users=tests
for argument in "$@"; do
    case $argument in
        --check) check=yes ;;
        bench) users=benchmarks ;;
    esac
done

missing=
if [ "$users" = benchmarks ]; then
    has wrk || missing=" wrk"
else
    has pgbouncer || missing="$missing pgbouncer"
    has nginx || missing="$missing nginx"
    has chromium || missing="$missing chromium"
    found=
    for library in /usr/lib/*/faketime/libfaketime.so.1 /usr/lib*/faketime/libfaketime.so.1 /usr/local/lib/faketime/libfaketime* \
        /opt/homebrew/lib/faketime/libfaketime*; do
        if [ -e "$library" ]; then found=$library; fi
    done
    [ -n "$found" ] || missing="$missing libfaketime"
fi
[ -n "$missing" ] || exit 0

install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 $missing </dev/null
}

if has apt-get; then
    if [ "$(id -u)" = 0 ] && [ -z "$check" ]; then
        echo "Installing for the $users:$missing"
        log=$(mktemp)
        # The lists of packages are often missing or too old: then once more with new ones.
        if install >"$log" 2>&1 || { apt-get update -qq >"$log" 2>&1 && install >>"$log" 2>&1; }; then
            rm -f "$log"
            exit 0
        fi
        cat "$log" >&2
        rm -f "$log"
    fi
    command='apt-get install'
    [ "$(id -u)" = 0 ] || command='sudo apt-get install'
elif has dnf; then command='sudo dnf install'
elif has zypper; then command='sudo zypper install'
elif has pacman; then command='sudo pacman -S'
elif has brew; then command='brew install'
else command='install'
fi
echo "The $users need$missing from the system; type: $command$missing" >&2
exit 1
