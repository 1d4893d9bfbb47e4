"""
P5: how much longer an activation, a look and a list take once the tables have grown.

`python -m tests.bench.growth --small FOLDER --large FOLDER` on two crowds (`crowd.py --stock`): a `tribi serve` on each, one
`tribi sandbox` as the provider of both, and one client, whose requests go now to the one, now to the other. Ids are drawn out of
the whole table; activations are of orders that nobody has activated, four numbers apart.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from app.postgres import hold
from tests.bench.crowd import KEY, made_in
from tests.bench.load import Load, load
from tests.processes.programs import Program, a_free_port, until

ROUNDS = 5
SECONDS = 4.0
_ACTIVATIONS = 400
"""Of a round."""
_OF_THE_REGISTER = 100
"""So many of the orders that wait are left to `queries_run`, which takes them from the front."""

_WARMED = ("esim_profiles", "orders", "idempotency_keys", "provisioning_attempts", "audit_log")
_NEEDED = {"esim_profiles", "orders"}
"""Of these the rows themselves, too: a look may be at any of them."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Medians of the rounds' medians, in milliseconds; `spread`: the least and the most of the ratios of single rounds."""

    what: str
    small_ms: float
    large_ms: float
    spread: tuple[float, float]

    @property
    def ratio(self) -> float:
        return self.large_ms / self.small_ms


@dataclass
class Shop:
    """A server on a crowd."""

    url: str
    made: dict[str, Any]
    activated: int = 0
    p50s: dict[str, list[float]] = field(default_factory=dict)

    async def look(self, what: str, path: str, ids: Sequence[int] = (), *, seconds: float = SECONDS) -> None:
        self._note(what, await load(self.url, path, *ids, clients=1, seconds=seconds, key=self.made["key"]))

    async def activate(self, what: str) -> None:
        """The next of those that wait."""
        first, last, step = self.made["to_activate"]
        begins = first + (_OF_THE_REGISTER + self.activated) * step
        ends = begins + (_ACTIVATIONS - 1) * step
        if ends > last:
            stock = _OF_THE_REGISTER + (ROUNDS + 1) * _ACTIVATIONS
            raise ValueError(f"no more orders wait to be activated: make the crowd with --stock {stock} or more")
        self.activated += _ACTIVATIONS
        self._note(what, await load(self.url, "once", begins, ends, step, clients=1, seconds=120, key=self.made["key"]))

    def _note(self, what: str, seen: Load) -> None:
        if seen.not_ok or seen.cut:
            raise RuntimeError(f"{what}: of {seen.requests} requests {seen.not_ok} were refused and {seen.cut} cut")
        self.p50s.setdefault(what, []).append(seen.p50_ms)


async def measure(small: Shop, large: Shop) -> list[Growth]:
    """One after the other, and so in each round."""
    for nth in range(ROUNDS + 1):
        for shop in (small, large):
            first, last = shop.made["esims"]
            from_order, to_order = shop.made["order_ids"]
            await shop.activate("activation")
            await shop.look("GET /api/esims/{id}", "/api/esims/{id}", (first, last))
            await shop.look("GET /api/orders, first page", "/api/orders")
            await shop.look("GET /api/orders, any page", "/api/orders?cursor={id}", (from_order + 20, to_order))
            if nth == 0:  # connections were opened, and code was loaded
                shop.p50s.clear()
    return [_growth(what, small.p50s[what], large.p50s[what]) for what in small.p50s]


def _growth(what: str, small: Sequence[float], large: Sequence[float]) -> Growth:
    ratios = [one / other for one, other in zip(large, small, strict=True)]
    return Growth(what, statistics.median(small), statistics.median(large), (min(ratios), max(ratios)))


@asynccontextmanager
async def served(folder: Path, data: Path, provider_url: str) -> AsyncIterator[Shop]:
    """
    A server on the crowd in `data`, ready.

    Args:
        folder: for logs, mails and the journal.
    """
    with hold(data) as database:
        made = made_in(database.url)
        await asyncio.to_thread(warm, database.url)
        port = a_free_port()
        server = Program(
            folder,
            folder / "server.log",
            {
                "DATABASE_URL": database.url,
                "ENCRYPTION_KEY": KEY,
                "TRIBI_DATA_DIR": str(folder),
                "ESIM_PROVIDER": "CONNECTED_YOU",
                "CONNECTED_YOU_BASE_URL": provider_url,
                "CONNECTED_YOU_API_KEY": "sandbox",
                "CONNECTED_YOU_PARTNER_ID": "partner-4711",
                "CONNECTED_YOU_DRY_RUN": "false",
                "LOG_LEVEL": "ERROR",
            },
            "serve", "--port", str(port),
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            await until(lambda: _answers(f"{url}/readyz"))
            yield Shop(url, made)
        finally:
            server.clear_away()


def warm(url: str) -> None:
    """What is looked at lies in the machine's memory, as far as it fits: a disk's speed isn't what is measured."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
        indexes = "SELECT indexrelid FROM pg_index WHERE indrelid = ANY(%s::regclass[])"
        relations = [oid for (oid,) in connection.execute(indexes, (list(_WARMED),))]
        relations += [oid for (oid,) in connection.execute("SELECT unnest(%s::regclass[])::oid", (sorted(_NEEDED),))]
        for oid in relations:
            connection.execute("SELECT pg_prewarm(%s::oid::regclass, 'read')", (oid,))


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(url) as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False


async def run(small: Path, large: Path) -> list[Growth]:
    """
    Measures P5.

    Args:
        small, large: folders of crowds.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tribi-growth-")))
        port = a_free_port()
        (folder / "provider").mkdir()
        provider = Program(folder, folder / "provider.log", {}, "sandbox", "--port", str(port))
        stack.callback(provider.clear_away)
        await until(lambda: _answers(f"http://127.0.0.1:{port}/"))
        shops = []
        for name, data in (("small", small), ("large", large)):
            (folder / name).mkdir()
            shops.append(await stack.enter_async_context(served(folder / name, data, f"http://127.0.0.1:{port}")))
        return await measure(*shops)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tests.bench.growth", description="P5: what costs more once the tables have grown."
    )
    parser.add_argument("--small", type=Path, required=True, help="the folder of a small crowd")
    parser.add_argument("--large", type=Path, required=True, help="and of a large one")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    grown = asyncio.run(run(given.small, given.large))
    if given.json:
        json.dump([asdict(one) | {"ratio": one.ratio} for one in grown], sys.stdout, indent=1)
        return
    for one in grown:
        spread = " to ".join(f"{ratio:.2f}" for ratio in one.spread)
        print(f"{one.what:<30}{one.small_ms:8.2f} ms {one.large_ms:8.2f} ms   ÷ {one.ratio:.2f} ({spread})")


if __name__ == "__main__":
    main()
