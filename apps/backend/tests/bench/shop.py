"""
The stage of the measurements: a PostgreSQL of its own on a real disk, as safe as it comes; a provider with a fixed latency;
`tribi serve`.
"""

import asyncio
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from pydantic import SecretStr

from app import schema
from app.house import House
from app.postgres import hold
from app.services.orders.page_links import PageLinks, page_links
from app.settings import Settings
from app.vault import Keyring
from tests.conftest import KEY
from tests.processes.installations import API_KEY, Installation, Server, a_site
from tests.processes.programs import until
from tests.stand_in.elsewhere import StandInChild

LATENCY_S = 0.05
"""The provider's, unless a measurement has another one."""

_IN_MEMORY = {"tmpfs", "ramfs"}
# Each kind of number from a range of its own, so that it can't be taken for another (`pgbench.py`).
_NUMBERS = {"orders": 100_000_001, "esim_profiles": 200_000_001, "provisioning_attempts": 300_000_001}
_CLONE = """
    INSERT INTO orders (status, plan_id, plan_snapshot, amount_minor, currency, customer_email, customer_name,
                        payment_reference, placed_by_key_id)
    SELECT status, plan_id, plan_snapshot, amount_minor, currency, customer_email, customer_name, payment_reference,
           placed_by_key_id
    FROM orders, generate_series(1, %s) WHERE orders.id = %s
    RETURNING id, nextval('esim_profiles_id_seq')
"""
_COPY_PROFILES = """
    COPY esim_profiles (id, order_id, provider, is_live, page_token, page_token_hash, page_expires_at) FROM STDIN
"""
_KEYS = """
    INSERT INTO idempotency_keys (key, request_hash, order_id)
    SELECT 'bench-' || id, sha256(convert_to(id::text, 'UTF8')), id FROM orders WHERE id BETWEEN %s AND %s
"""


class NotOnDisk(Exception):
    """The temporary folder lies in memory, where a commit costs nothing."""


@dataclass
class Stage:
    """
    Attributes:
        site: its settings are those of every server.
        postgres_pid: of the server that all others of PostgreSQL are children of.
    """

    folder: Path
    site: Installation
    database_url: str
    postgres_pid: int
    links: PageLinks

    # --- servers

    @asynccontextmanager
    async def server(self, workers: int, **settings: str) -> AsyncIterator[Server]:
        """`tribi serve`, ready; it ends with the block as it is to end."""
        server = await self.site.serve("--workers", str(workers), **settings)
        try:
            yield server
            server.send(signal.SIGTERM)
            assert await server.ended() == 0, server.log.read_text()[-2000:]
        finally:
            server.clear_away()

    @asynccontextmanager
    async def supplier(self, latency_s: float) -> AsyncIterator[StandInChild]:
        """Another provider than `site.supplier`: slower."""
        ledger = self.folder / f"ledger-{latency_s}.jsonl"
        arguments = ("--ledger", ledger, "--api-key", API_KEY, "--no-fsync", "--latency-s", str(latency_s))
        async with StandInChild(*arguments) as supplier:
            yield supplier

    # --- orders

    async def stock(self, number: int) -> range:
        """So many paid orders more, as `POST /api/orders` leaves them, with install page and idempotency key."""
        first = await self.site.order()
        return await asyncio.to_thread(self._clone, first, number)

    def _clone(self, order_id: int, number: int) -> range:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            with connection.transaction():
                ids = connection.execute(_CLONE, (number, order_id)).fetchall()
                [days] = connection.execute("SELECT now() + interval '200 days'").fetchone() or ()
                [(provider, is_live)] = connection.execute(
                    "SELECT provider, is_live FROM esim_profiles WHERE order_id = %s", (order_id,)
                ).fetchall()
                with connection.cursor().copy(_COPY_PROFILES) as copy:
                    for clone, profile in ids:
                        page = self.links.new(profile, 1)
                        copy.write_row((profile, clone, provider, is_live, page["page_token"], page["page_hash"], days))
                orders = range(min(ids)[0], max(ids)[0] + 1)
                assert len(orders) == number  # nobody else places any
                connection.execute(_KEYS, (orders[0], orders[-1]))
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")
        return orders

    def next_order(self, orders: range) -> int:
        """The first one of these behind all that have been asked for."""
        found = self.ask(
            "SELECT coalesce(max(order_id) + 1, %s) FROM esim_profiles WHERE order_id BETWEEN %s AND %s AND status <> 'pending'",
            orders[0], orders[0], orders[-1],
        )  # fmt: skip
        if found > orders[-1]:
            raise RuntimeError(f"{len(orders):,} orders were too few for this machine")
        return found

    def count(self, status: str, first: int, last: int) -> int:
        """The eSIMs of these orders that are so."""
        return self.ask(
            "SELECT count(*) FROM esim_profiles WHERE status = %s AND order_id BETWEEN %s AND %s", status, first, last
        )

    def ask(self, query: str, *values: object) -> int:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            row = connection.execute(query.encode(), values).fetchone()
        assert row is not None
        return int(row[0])

    # --- jobs

    def waiting_jobs(self) -> int:
        return self.ask("SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')")

    async def empty_queue(self) -> None:
        """What is under way is finished; all that waits, and all that is left of what is done, is taken away."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("DELETE FROM procrastinate_jobs WHERE status = 'todo'")
            await until(lambda: not self.waiting_jobs())
            connection.execute("TRUNCATE procrastinate_jobs CASCADE")

    @contextmanager
    def queue_held(self) -> Iterator[None]:
        """
        Jobs are put into the queue as ever, and none is found there: the function by which workers look for one is replaced by one
        that never finds any, in this database.
        """
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            [(_, whole)] = connection.execute(
                "SELECT 1, pg_get_functiondef(max(oid)) FROM pg_proc WHERE proname LIKE 'procrastinate_fetch_job%'"
            ).fetchall()
            empty, replaced = re.subn(
                r"\$function\$.*\$function\$", "$function$ BEGIN RETURN NULL; END; $function$", whole, flags=re.DOTALL
            )
            assert replaced == 1, whole
            connection.execute(empty.encode())
            try:
                yield
            finally:
                connection.execute(whole.encode())


@contextmanager
def _a_folder() -> Iterator[Path]:
    """Not where all temporary files lie, which often is in memory."""
    place = os.environ.get("TMPDIR") or ("/var/tmp" if Path("/var/tmp").is_dir() else None)  # noqa: S108 - a random name in it
    with tempfile.TemporaryDirectory(prefix="tribi-bench-", dir=place, ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        if file_system_of(folder) in _IN_MEMORY:
            raise NotOnDisk(
                f"{folder.parent} lies in memory, where a commit costs nothing: set TMPDIR to a folder on a disk"
            )
        folder.chmod(0o711)  # root's database server is another user's
        yield folder


@asynccontextmanager
async def a_stage() -> AsyncIterator[Stage]:
    """
    Raises:
        NotOnDisk: set TMPDIR to a folder on a disk.
    """
    with _a_folder() as folder:
        postgres_pid = None
        try:
            with hold(folder / "postgres") as server:
                schema.migrate(server.url)
                async with a_site(folder, server.url, "--no-fsync", "--latency-s", str(LATENCY_S)) as site:
                    stage = await _built(folder, site, server.url)
                    postgres_pid = stage.postgres_pid
                    yield stage
        finally:
            if postgres_pid is not None:  # it ends after its last client has gone, and its folder can't go before
                await until(lambda: not psutil.pid_exists(postgres_pid))


async def _built(folder: Path, site: Installation, url: str) -> Stage:
    settings = Settings(database_url=SecretStr(url), encryption_key=SecretStr(KEY))
    house = House(settings, site.db, Keyring.parse(KEY))
    await house.settle()
    await site.stock()
    site.settings["LOG_LEVEL"] = "INFO"
    with psycopg.connect(url, autocommit=True) as connection:
        for table, number in _NUMBERS.items():
            connection.execute(f"ALTER SEQUENCE {table}_id_seq RESTART {number}".encode())
        postgres = psutil.Process(connection.info.backend_pid).parent()
        synced = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in ("fsync", "synchronous_commit")]
    assert synced == [("on",), ("on",)], synced
    assert postgres is not None
    return Stage(folder, site, url, postgres.pid, page_links(house))


def file_system_of(folder: Path) -> str:
    """Its type, as `ext4`."""
    mounts = {Path(one.mountpoint): one.fstype for one in psutil.disk_partitions(all=True)}
    return next((mounts[parent] for parent in (folder, *folder.parents) if parent in mounts), "?")
