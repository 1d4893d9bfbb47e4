"""
Wrong clocks, by libfaketime: a program's wall clock is off by so many seconds, its monotonic and boot clocks are left alone.

A database server is started the same way, with the product's own binaries and options.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from glob import glob
from pathlib import Path

import psycopg
from psycopg.sql import SQL

from app import schema
from app.postgres.cluster import Cluster
from app.postgres.housing import home_of, settle
from app.postgres.lease import find_bin_dir, url_of
from app.postgres.places import Places
from tests.processes.programs import Settings

_PLACES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib*/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)

SUMMER_BEGINS = datetime(2026, 3, 29, 1, tzinfo=UTC)
"""In Berlin 2 o'clock becomes 3."""

WINTER_BEGINS = datetime(2026, 10, 25, 1, tzinfo=UTC)
"""In Berlin 3 o'clock becomes 2."""

BERLIN = "Europe/Berlin"


def shortly_before(instant: datetime) -> float:
    """By how many seconds a clock is off that will show the instant in a few seconds."""
    return instant.timestamp() - time.time() - 5


def wrong_clock(off_by_s: float) -> Settings:
    """The environment of a program whose clock is off."""
    return {"LD_PRELOAD": _library(), "FAKETIME": f"{off_by_s:+.0f}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _library() -> str:
    found = [path for place in _PLACES for path in glob(place)]  # noqa: PTH207 - patterns of absolute paths
    assert found, "libfaketime is missing: scripts/system_packages.sh installs it or says how"
    return found[0]


@contextmanager
def a_wrong_database(folder: Path, off_by_s: float, timezone: str = "UTC") -> Iterator[str]:
    """
    A database server of its own whose clock is off.

    Yields:
        Its URL; it has a migrated `template_tribi`, as the one of the test session.
    """
    places = Places(folder)
    outside = folder / "outside"
    house = settle(places, home_of(places, outside), find_bin_dir(), may_use_namespace=True, outside=outside)
    cluster = Cluster(house.home, house.home, house.bin_dir, house.identity, places.log)
    cluster.make()
    with _lent(wrong_clock(off_by_s), places.log):
        server = cluster.start()
    try:
        url = url_of(str(house.home))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE template_tribi")
            connection.execute(SQL("ALTER ROLE tribi SET timezone = {}").format(timezone))
        schema.migrate(url.replace("/tribi?", "/template_tribi?"))
        yield url
    finally:
        cluster.stop(server)


@contextmanager
def _lent(settings: Settings, log: Path) -> Iterator[None]:
    """Our environment and stderr are what a server is started with; nothing else looks at them meanwhile."""
    stderr = os.dup(2)
    os.environ.update(settings)
    try:
        with log.open("ab") as stream:
            os.dup2(stream.fileno(), 2)
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        for name in settings:
            del os.environ[name]
