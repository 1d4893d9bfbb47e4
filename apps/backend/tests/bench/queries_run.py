"""Runs the register, and says of each statement what it has read and by which indexes."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.db import Database
from app.house import House
from app.postgres import hold
from app.services.esim_providers import get_esim_provider
from app.services.esims.activate import Activations
from app.settings import Settings
from app.vault import Keyring
from tests.bench import queries_office, queries_orders, queries_work
from tests.bench.crowd import KEY, made_in
from tests.bench.crowd_rows import Crowd
from tests.bench.queries import REGISTER, Shop
from tests.bench.queries_plans import PlanWatch, Told, telling

MODULES = (queries_orders, queries_work, queries_office)
"""Importing them fills the register."""


@asynccontextmanager
async def opened(url: str, watch: PlanWatch, folder: Path, **settings: str) -> AsyncIterator[Shop]:
    """
    The crowd's installation, with sessions that tell their plans.

    Args:
        folder: for mails and the like.
        settings: PostgreSQL's.
    """
    made = made_in(url)
    ours = Settings(
        database_url=SecretStr(url),
        encryption_key=SecretStr(KEY),
        esim_provider="CONNECTED_YOU",
        connected_you_partner_id="partner-of-tests",
        connected_you_webhook_secret=SecretStr("a-secret-of-the-bench-0001"),
        tribi_data_dir=folder,
    )
    db = Database(telling(url, **settings))
    watch.listen(db)
    try:
        house = House(ours, db, Keyring.parse(KEY))
        await house.settle()
        crowd = Crowd(
            house.keyring.keys[0], house.vault.fingerprint_key, made["orders"], made["days"], made["stock"], tuple(made["keys"]),
            (), (made["endpoints"][0], made["endpoints"][1]), made["now"],
        )  # fmt: skip
        provider = get_esim_provider(ours)
        activations = Activations(house, provider, timeout_s=30, wait_s=20, max_concurrency=4)
        shop = Shop(house, crowd, provider, activations, made | {"take": watch.take})
        await shop.settle()
        yield shop
        await activations.drain(5)
    finally:
        await db.close()


async def run(shop: Shop, watch: PlanWatch, *, is_meant: Callable[[Told], bool] = lambda _: True) -> list[str]:
    """
    Runs all of the register.

    Args:
        is_meant: which statements to judge.

    Returns:
        What is wrong, a line for each statement and fault.
    """
    wrong = []
    for query in REGISTER:
        begun = len(watch.told)
        with watch.query(query.name):
            await query.run(shop)
        wrong += [
            f"{query.name}: {fault}: {told.statement[:200]}"
            for told in watch.told[begun:]
            if query.reads_all is None and is_meant(told)
            for fault in told.faults(query.most_rows(shop))
        ]
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.queries_run", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of a crowd")
    parser.add_argument("--plans", help="show the plans of statements of queries whose names have this in them")
    parser.add_argument("--most", type=int, default=10, help="show so many of the largest readers")
    given = parser.parse_args()
    watch = PlanWatch()

    async def work(url: str, folder: Path) -> list[str]:
        async with opened(url, watch, folder) as shop:
            return await run(shop, watch)

    with tempfile.TemporaryDirectory() as folder, hold(given.data) as server:
        wrong = asyncio.run(work(server.url, Path(folder)))
    for told in sorted(watch.told, key=lambda told: -told.rows_read)[: given.most]:
        print(f"{told.rows_read:>9,} rows  {told.query}: {told.statement[:120]}")
    for told in watch.told:
        if given.plans and given.plans in told.query:
            print(told.statement, *_shown(told.plan), sep="\n")
    print(f"{len(REGISTER)} queries, {len(watch.told)} statements, {len(wrong)} faults")
    sys.exit("\n".join(wrong) or None)


def _shown(node: dict[str, Any], depth: int = 1) -> list[str]:
    conditions = " ".join(f"{name}: {node[name]}" for name in ("Index Cond", "Filter", "Recheck Cond") if name in node)
    of = " ".join(node[name] for name in ("Index Name", "Relation Name") if name in node)
    line = f"{'  ' * depth}{node['Node Type']} {of} rows={node['Actual Rows']}x{node['Actual Loops']} {conditions}"
    return [line, *(line for child in node.get("Plans", ()) for line in _shown(child, depth + 1))]


if __name__ == "__main__":
    main()
