"""
Dumps of the database, and databases made of them, by PostgreSQL's own programs, which come with the embedded one.

A dump holds customers' names and addresses in clear; codes and payloads in it are sealed with ENCRYPTION_KEY, which isn't in it.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import scalar_row

from app.connecting import libpq_url
from app.postgres.lease import find_bin_dir
from app.redaction import redact

_HAS_ORDERS_TABLE = "SELECT to_regclass('orders') IS NOT NULL"


class BackupFailed(ValueError):
    """`str()` says why, in PostgreSQL's words."""


def dump(url: str, file: Path) -> int:
    """
    Writes a dump (pg_dump's custom format) that is consistent in itself, while everything goes on. It is readable by its owner
    alone, and has its name only once it is whole and on disk.

    Returns:
        Its size in bytes.

    Raises:
        BackupFailed: there is no such file then.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", stdout=out.fileno())
            os.fsync(out.fileno())
        draft.rename(file)
    except OSError as error:
        raise BackupFailed(f"{file}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    return file.stat().st_size


def restore(url: str, file: Path) -> None:
    """
    Makes the database what it was when the dump was made. All or nothing.

    Raises:
        BackupFailed: nothing was changed: it holds orders, which would be lost, or the file is no dump.
    """
    with psycopg.connect(libpq_url(url), row_factory=scalar_row) as connection:
        has_table = connection.execute(_HAS_ORDERS_TABLE).fetchone()
        if has_table and connection.execute("SELECT EXISTS (SELECT FROM orders)").fetchone():
            raise BackupFailed(
                "this database holds orders, which would be lost: restore into an empty one (another DATABASE_URL, or another "
                "TRIBI_DATA_DIR), look at it, and then use that one"
            )
    options = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
    _run("pg_restore", url, *options, str(file))


def _run(program: str, url: str, *arguments: str, stdout: int = subprocess.DEVNULL) -> None:
    parts: dict[str, Any] = dict(conninfo_to_dict(libpq_url(url)))
    # On a command line everybody on the machine could read it.
    environment = os.environ | {"PGPASSWORD": str(parts.pop("password", None) or os.environ.get("PGPASSWORD", ""))}
    try:
        command = [str(find_bin_dir(program) / program), "--dbname", make_conninfo(**parts), *arguments]
        done = subprocess.run(  # noqa: S603 - PostgreSQL's own
            command, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, check=False
        )
    except OSError as error:
        raise BackupFailed(f"{program} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"{program} ended with {done.returncode}"]
        raise BackupFailed(redact(next((line for line in lines if "error:" in line), lines[-1])))
