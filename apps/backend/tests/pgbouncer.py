"""PgBouncer in transaction mode in front of a server of the tests. Debian's (1.18) keeps no track of prepared statements."""

import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import parse_qsl, urlencode, urlsplit

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from app.postgres.identity import Identity, another_name_for_us, ourselves
from tests.postgres.clients import wait_until
from tests.system_packages import the_command

POOL_SIZE = 5
"""Connections to the server for each database, however many the programs have to PgBouncer."""

# `server_reset_query` stays as it comes, which in transaction mode means that nothing is reset: what is left over shows.
_INI = """
[databases]
* = host={server} port={server_port}

[pgbouncer]
unix_socket_dir = {folder}
unix_socket_mode = 0700
listen_port = 6432
auth_type = trust
auth_file = {folder}/users
admin_users = tribi
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 2000
query_wait_timeout = 5
server_login_retry = 1
logfile = {folder}/pgbouncer.log
"""

# By their own sessions, each of which is ours for the length of a transaction. What PgBouncer itself sets and keeps for each client
# (see "track_extra_parameters" in its manual) is no leftover.
_LEFT_OVER = """
SELECT 'prepared statement ' || name FROM pg_prepared_statements
UNION ALL SELECT 'LISTEN ' || channel FROM pg_listening_channels() AS channel
UNION ALL SELECT 'advisory lock ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
UNION ALL SELECT 'SET ' || name FROM pg_settings WHERE source = 'session' AND lower(name) NOT IN
  ('application_name', 'client_encoding', 'datestyle', 'standard_conforming_strings', 'timezone')
UNION ALL SELECT 'temporary table ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'
UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE is_holdable
"""


class PgBouncer:
    """One that runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        """The server's, by way of PgBouncer."""
        self.console = make_conninfo(url, dbname="pgbouncer")
        self._transactions: dict[str, int] = {}
        """By database, when it was last looked for leftovers."""

    def connections(self) -> Counter[str]:
        """To the server, by database."""
        return Counter(str(row["database"]) for row in self._show("SHOW SERVERS"))

    def left_over(self) -> list[str]:
        """What sessions of the server still hold from transactions that have ended, as only a session's owner may see."""
        found: list[str] = []
        transactions = {row["database"]: row["xact_count"] for row in self._show("SHOW STATS_TOTALS")}
        for database, number in self.connections().items():
            if transactions[database] != self._transactions.get(database):
                found += [f"{database}: {what}" for what in self._left_over_in(database, number)]
                self._transactions[database] = transactions[database] + number
        return found

    def _show(self, what: LiteralString) -> list[dict[str, Any]]:
        with psycopg.connect(self.console, autocommit=True, row_factory=dict_row) as console:
            return console.execute(what).fetchall()

    def _left_over_in(self, database: str, number: int) -> list[str]:
        found: list[str] = []
        with ExitStack() as stack:
            for _ in range(number):  # all at once, so that each is another session
                connection = stack.enter_context(psycopg.connect(make_conninfo(self.url, dbname=database)))
                found += [str(row[0]) for row in connection.execute(_LEFT_OVER)]
        return found


@contextmanager
def pgbouncer_before(url: str) -> Iterator[PgBouncer]:
    """
    Args:
        url: of a server that listens in a folder, as the embedded one does. PgBouncer, like that, runs as whoever may use it.
    """
    parts = urlsplit(url)
    server = dict(parse_qsl(parts.query))
    folder = Path(tempfile.mkdtemp(prefix="tribi-pgbouncer-", dir="/tmp"))  # a socket's path may have 107 bytes
    (folder / "users").write_text('"tribi" ""\n"nobody_special" ""\n')
    (folder / "pgbouncer.ini").write_text(
        _INI.format(server=server["host"], server_port=server["port"], folder=folder, pool_size=POOL_SIZE)
    )
    identity = _who_may_use(Path(server["host"]))
    for path in (*folder.iterdir(), folder):
        shutil.chown(path, identity.uid, identity.gid)
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [the_command("pgbouncer"), "-q", folder / "pgbouncer.ini"],
            preexec_fn=identity.enter,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd="/",
        )
    try:

        def listens() -> bool:
            assert process.poll() is None, (folder / "out").read_text()
            with socket.socket(socket.AF_UNIX) as probe:  # the socket is there a moment before it is listened on
                return probe.connect_ex(str(folder / ".s.PGSQL.6432")) == 0

        wait_until(listens)
        yield PgBouncer(parts._replace(query=urlencode({"host": str(folder), "port": "6432"})).geturl())
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _who_may_use(folder: Path) -> Identity:
    """PgBouncer refuses root, too: see app/postgres/identity.py."""
    owner = folder.stat()
    if owner.st_uid != ourselves().uid:
        return Identity(owner.st_uid, owner.st_gid)
    other_name = another_name_for_us() if owner.st_uid == 0 else None
    return other_name or ourselves()
