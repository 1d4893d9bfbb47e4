"""
`tribi` quickly: a parent that has imported the libraries forks a child for each command (`python -m tests.cli.forks`).

Libraries are nine tenths of what a command waits for before it begins. Nothing of `app` is among what the parent has: each
command imports that anew, in its own order and its own environment, and ends as Python ends.

Orders come as lines of JSON, one at a time, on a socket whose number is its argument; each exit status goes back as a line.
"""

import gc
import importlib
import json
import os
import socket
import sys
from typing import Any

LIBRARIES = (
    "aiohttp",
    "aiosmtplib",
    "alembic.command",
    "cryptography.hazmat.primitives.ciphers.aead",
    "email_validator",
    "procrastinate",
    "prometheus_client",
    "psycopg_pool",
    "pydantic_settings",
    "rich.console",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
    "standardwebhooks",
    "structlog",
    "typer",
)


def _become_tribi(order: dict[str, Any]) -> None:
    for number, (name, flags) in enumerate(
        ((order["stdin"], os.O_RDONLY), (order["stdout"], os.O_WRONLY), (order["stderr"], os.O_WRONLY))
    ):
        opened = os.open(name, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    sys.argv = ["tribi", *order["arguments"]]
    from app.cli import main  # see above

    main()


def main() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.partition(".")[0] == "app"]
    gc.freeze()  # what is imported is shared with the children, and stays so
    with socket.socket(fileno=int(sys.argv[1])) as line, line.makefile("rb") as orders:
        while order := orders.readline():
            pid = os.fork()
            if pid == 0:
                break
            _, status = os.waitpid(pid, 0)
            line.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    if order:
        _become_tribi(json.loads(order))


if __name__ == "__main__":
    main()
