"""A proxy between the app and PostgreSQL that cuts, refuses, stalls, and loses what answers a COMMIT.

A child process (`db_proxy_child.py`). Who is asked to do something may be in any process: `ask` needs the control socket's
path and blocks for about a millisecond, so that a failpoint may use it. One line of JSON a command, one a reply:

    {"do": "cut"}                          every connection, at once                              → {"cut": 7}
    {"do": "refuse", "for_s": 2}           newcomers are told that the server is starting up      → {}
    {"do": "stall", "for_s": 5}            nothing is forwarded, in neither direction             → {}
    {"do": "lose_commit"}                  the next COMMIT reaches the server; its answer is      → {"waiting": 1}
                                           swallowed and the connection cut
         "match": "order-12(?!\\\\d)"        … of a transaction in which this regular expression is found (parameters, too)
         "pid": 4711                       … of a connection of this process
         "count_as": "in transaction one"  … counted under this name, too
    {"do": "drop_commit", …}               the same, but the COMMIT doesn't reach the server      → {"waiting": 1}
    {"do": "forget"}                       what is still waiting isn't waited for any more        → {"forgotten": 1}
    {"do": "counts"}                       what has really happened                               → {"cut": 7, "lost_commits": 1, …}
"""

import json
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.chaos import db_proxy_child
from tests.chaos.db_proxy_child import CONTROL, SOCKET


def ask(control: str | Path, do: str, **details: Any) -> dict[str, int]:
    """Sends the proxy a command and returns its reply. Blocks, and needs no event loop."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(control))
        connection.sendall(json.dumps({"do": do, **details}).encode() + b"\n")
        reply: dict[str, Any] = json.loads(connection.makefile().readline())
    if "error" in reply:
        raise ValueError(reply["error"])
    return reply


class DatabaseProxy:
    """The proxy as a child process, for the length of a `with` block; it ends with the process that started it, too."""

    def __init__(self, upstream: str) -> None:
        """
        Args:
            upstream: the server's URL, with its socket's folder (`?host=/…&port=…`): `app.postgres` and PgBouncer have one.
        """
        parts = urlsplit(upstream)
        server = dict(parse_qsl(parts.query))
        self._upstream = Path(server["host"], SOCKET.format(port=server.get("port", "5432")))
        self._folder = Path(tempfile.mkdtemp(prefix="tribi-proxy-", dir="/tmp"))  # a socket's path may have 107 bytes
        query = urlencode(server | {"host": str(self._folder), "port": "5432"})
        self.url = parts._replace(query=query).geturl()
        """The same database, user and password by way of the proxy."""
        self.control = self._folder / CONTROL

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", db_proxy_child.__file__, self._upstream, self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the database proxy has not started"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def ask(self, do: str, **details: Any) -> dict[str, int]:
        return ask(self.control, do, **details)

    def counts(self) -> Counter[str]:
        return Counter(self.ask("counts"))
