"""What a run plays on: a database, a supplier with its ledger on disk, forked servers and workers, and the oracle at the end."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr
from sqlalchemy import text

from app import schema
from app.house import House
from app.postgres import hold
from app.settings import Settings
from app.vault import Keyring, Vault
from tests.api.serving import Shop
from tests.chaos.forks import Fork, Zygote
from tests.chaos.oracle import Evidence, judge
from tests.chaos.outcome import Verdict
from tests.chaos.strikes import Plan
from tests.conftest import KEY
from tests.processes.installations import Installation, Server, a_database, a_site
from tests.processes.programs import Program, a_free_port, environment, until
from tests.stand_in import read_ledger

TIMEOUT_S = 1
"""CONNECTED_YOU_TIMEOUT_SECONDS of a stage, unless it says otherwise."""

_RECOVERED_WITHIN_S = 180
_AT_ONCE = 16
_ROOM_BYTES = 2 * 1024**3

_CLONE = text("""
    INSERT INTO orders (status, plan_id, plan_snapshot, amount_minor, currency, customer_email, customer_name,
                        payment_reference, placed_by_key_id)
    SELECT status, plan_id, plan_snapshot, amount_minor, currency, customer_email, customer_name, payment_reference,
           placed_by_key_id
    FROM orders, generate_series(1, :number) WHERE orders.id = :order_id
    RETURNING id
""")
# Their install links are withdrawn: a token is sealed for its own row, and one that came later would change what callers hear.
_CLONE_PROFILES = text("""
    INSERT INTO esim_profiles (order_id, provider, is_live, page_expires_at)
    SELECT wanted, provider, is_live, now() FROM esim_profiles, unnest(CAST(:order_ids AS bigint[])) wanted
    WHERE order_id = :order_id
""")
_STATUSES = text("SELECT order_id, status FROM esim_profiles")

P = TypeVar("P", bound=Program)


class _Forked(Program):
    """A program that was forked; it ends with the parent of all forks at the latest."""

    def __init__(self, fork: Fork, log: Path) -> None:
        self._process = fork
        self.log = log

    @property
    def status(self) -> int | None:
        """As `ended` returns it; None while it runs."""
        return self._process.poll()

    def clear_away(self) -> None:
        self.send(signal.SIGKILL)


class ForkedServer(_Forked, Server):
    """What `tribi serve` runs."""

    def __init__(self, fork: Fork, log: Path, shop: Shop) -> None:
        super().__init__(fork, log)
        self.shop = shop


class ForkedWorker(_Forked):
    """What `tribi worker` runs."""


@dataclass
class Stage:
    """
    Attributes:
        site: the installation: `site.db` reaches the database directly, `site.supplier` controls the stand-in.
        data_dir: of the stage's own PostgreSQL server; None where it uses another's.
        plan: of strikes, for servers that are forked `armed`. Write it before.
    """

    folder: Path
    site: Installation
    zygote: Zygote
    vault: Vault
    plan: Plan
    data_dir: Path | None

    # --- programs

    async def start_server(self, *, armed: bool = False, **changes: str | None) -> ForkedServer:
        """Forks one; it isn't ready yet. `changes`: of the settings; None takes one away."""
        port = a_free_port()
        fork, log = await self._fork("server", changes, armed=armed, port=port)
        bearer = {"Authorization": f"Bearer {self.site.secret}"}
        shop = Shop(f"http://127.0.0.1:{port}", self.site.db, self.site.http, bearer, self.site.key_id)
        return self._kept(ForkedServer(fork, log, shop))

    async def server(self, *, armed: bool = False, **changes: str | None) -> ForkedServer:
        """One that is ready."""
        server = await self.start_server(armed=armed, **changes)
        await until(server.is_ready)
        return server

    async def worker(self, *, armed: bool = False, **changes: str | None) -> ForkedWorker:
        fork, log = await self._fork("worker", changes, armed=armed)
        return self._kept(ForkedWorker(fork, log))

    async def _fork(
        self, kind: str, changes: dict[str, str | None], *, armed: bool, port: int = 0
    ) -> tuple[Fork, Path]:
        settings = {name: value for name, value in (self.site.settings | changes).items() if value is not None}
        log = self.folder / f"{kind}-{len(self.site.programs)}.log"
        plan = str(self.plan.folder) if armed else ""
        return await self.zygote.fork(kind, environment(self.folder, settings), log, port=port, plan=plan), log

    def _kept(self, program: P) -> P:
        self.site.programs.append(program)
        return program

    # --- orders

    async def orders(self, number: int) -> list[int]:
        """So many paid orders, alike."""
        first = await self.site.order()
        async with self.site.db.begin() as connection:
            clones = list(await connection.scalars(_CLONE, {"order_id": first, "number": number - 1}))
            await connection.execute(_CLONE_PROFILES, {"order_id": first, "order_ids": clones})
        return [first, *sorted(clones)]

    async def statuses(self) -> dict[int, str]:
        """Of all orders' eSIMs."""
        async with self.site.db.read() as connection:
            return {row.order_id: row.status for row in await connection.execute(_STATUSES)}

    async def recover(self, order_ids: Collection[int], *servers: Server, limit_s: float = _RECOVERED_WITHIN_S) -> None:
        """Waits for the sweep, and activates what is pending again (nothing was sent), until each order has come to an end."""

        async def is_over() -> bool:
            statuses = await self.statuses()
            pending = [order_id for order_id in order_ids if statuses[order_id] == "pending"]
            gate = asyncio.Semaphore(_AT_ONCE)

            async def again(number: int, order_id: int) -> None:
                async with gate:
                    await servers[number % len(servers)].activate(order_id)

            await asyncio.gather(*(again(number, order_id) for number, order_id in enumerate(pending)))
            return not pending and all(statuses[order_id] != "provisioning" for order_id in order_ids)

        await until(is_over, limit_s)

    # --- the end

    async def requests(self) -> list[dict[str, Any]]:
        """All that the supplier received."""
        found: list[dict[str, Any]] = await self.site.supplier.get("requests")
        return found

    async def judge(self, *, disturbed: Collection[str] = (), activated: Collection[int] | None = None) -> Verdict:
        """The oracle's verdict, see `Evidence`."""
        evidence = Evidence(read_ledger(self.site.ledger), await self.requests(), disturbed, activated)
        return await judge(self.site.db, self.vault, evidence)


@asynccontextmanager
async def a_stage(
    folder: Path, *, postgres_url: str | None = None, on_disk: bool = False, **settings: str
) -> AsyncIterator[Stage]:
    """
    Args:
        postgres_url: of a server that has `template_tribi` (the test session's); a database of the stage's own is made there.
            None: a server of the stage's own, which may be killed.
        on_disk: where its own server lies: on a real disk, or in memory where there is room.
        settings: of all its programs, on top of those that every stage has.
    """
    with _a_database(postgres_url, on_disk=on_disk) as (database_url, data_dir):
        async with a_site(folder, database_url) as site, Zygote() as zygote:
            site.settings |= {
                "CONNECTED_YOU_TIMEOUT_SECONDS": str(TIMEOUT_S),
                "ACTIVATION_WAIT_SECONDS": "60",  # a client hears the end, not that it goes on
                "PROVIDER_CIRCUIT_FAILURES": "0",
                "LOG_LEVEL": "INFO",
            } | settings
            house = House(
                Settings(database_url=SecretStr(database_url), encryption_key=SecretStr(KEY)),
                site.db,
                Keyring.parse(KEY),
            )
            await house.settle()
            await site.stock()
            plan = Plan(folder / "plan")
            plan.write([])
            try:
                yield Stage(folder, site, zygote, house.vault, plan, data_dir)
            finally:
                for program in site.programs:
                    program.clear_away()


@contextmanager
def _a_database(postgres_url: str | None, *, on_disk: bool) -> Iterator[tuple[str, Path | None]]:
    if postgres_url is not None:
        yield a_database(postgres_url), None
        return
    with a_server_of_its_own(on_disk=on_disk) as (server_url, data_dir):
        schema.migrate(server_url)
        yield server_url, data_dir


@contextmanager
def a_server_of_its_own(*, on_disk: bool = False) -> Iterator[tuple[str, Path]]:
    """The URL of an empty database, and its server's data folder: in memory where there is room, unless it shall be `on_disk`."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder with a random name is made in it
    is_roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM_BYTES
    place = memory if is_roomy and not on_disk else None
    with tempfile.TemporaryDirectory(prefix="tribi-chaos-", dir=place, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # root's server is another user's
        data_dir = Path(folder).resolve() / "data"
        with hold(data_dir) as server:
            yield server.url, data_dir
