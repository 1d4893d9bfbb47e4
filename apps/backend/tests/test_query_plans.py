"""
What is asked of a growing table costs no more when it has grown: it is neither read from one end to the other, nor sorted, nor
looked through for the few rows that are wanted.

All of the register (`tests/bench/queries.py`) is run on a shop with 20,000 orders of two months, three times: as the planner wants
it, when no statement may read more rows than its subject has; with plans made for any value, as PostgreSQL may keep them for what
is prepared; and with sequential scans switched off, when one that is left says that no index can do it. The last is for tables that
are small in this shop, where the planner rightly reads all of it. At 10,000,000 orders it is run by hand (docs/retention.md).
"""

import ast
import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

import app
from app.direct import Direct
from app.settings import BACKEND_DIR
from tests.bench.crowd import make
from tests.bench.crowd_rows import TABLES
from tests.bench.queries import REGISTER
from tests.bench.queries_plans import GROWING, PlanWatch, Told
from tests.bench.queries_run import opened, run
from tests.conftest import other_database

_ORDERS, _DAYS, _STOCK = 20_000, 60, 400
_APP = Path(app.__file__).parent
_PAGE = BACKEND_DIR.parents[1] / "docs" / "retention.md"

DO_NOT_GROW = {
    "connecting.py": "the server's process",
    "db.py": "BEGIN",
    "direct.py": "those who have it run a statement are looked at",
    "backup.py": "one look at a database that is about to be replaced",
    "encryption_keys.py": "a row for each key",
    "house.py": "the installation's one row",
    "schema.py": "the revision",
    "services/accounts/keys.py": "a row for each storefront",
    "services/catalogue/importing.py": "plans",
    "services/catalogue/plans.py": "plans",
    "services/catalogue/stored.py": "plans",
    "services/doctor/clocks.py": "no table",
    "services/doctor/database.py": "the server's settings",
    "services/doctor/journal.py": "the installation's one row",
    "services/webhooks/endpoints.py": "at most fifty endpoints; removing one takes its deliveries along (docs/retention.md)",
    "services/webhooks/rehearse.py": "at most fifty endpoints",
}
"""Modules whose statements needn't be on the register."""

NOT_RUN = {
    ("held.py", "hold"): "the installation's one row",
    ("services/accounts/send_code.py", "_note"): "by its id, as `_ERASE` beside it",
    ("services/esims/circuit.py", "_end_probe"): "a row for each provider",
    ("services/esims/circuit.py", "pass_gate"): "a row for each provider",
    ("services/esims/circuit.py", "_write"): "a row for each provider",
    ("services/orders/place.py", "draw_order_id"): "a sequence",
}
"""Functions with statements that the register doesn't reach."""

KEPT = {
    "ix_provisioning_attempts_deadline": "the sweep's; where few are open, it may use the other index that holds only those",
}
"""Indexes of growing tables that nothing here has used, and that are no constraint's."""


@dataclass
class Seen:
    """What three runs of the register have shown."""

    wrong: list[str] = field(default_factory=list)
    wrong_for_any_value: list[str] = field(default_factory=list)
    prepared: set[str] = field(default_factory=set)
    without_index: list[str] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    calls: set[tuple[str, int]] = field(default_factory=set)
    """File and line of each call in app that sent a statement."""


@pytest.fixture(scope="module")
async def crowd_url(server_url: str) -> AsyncIterator[str]:
    """A shop with a crowd."""
    name = f"crowd_{os.getpid()}"
    url = other_database(server_url, name)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_tribi")
        await asyncio.to_thread(make, url, orders=_ORDERS, days=_DAYS, stock=_STOCK, processes=2)
        yield url
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
async def seen(crowd_url: str, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    seen = Seen()

    async def wrong(*, is_meant: Callable[[Told], bool] = lambda _: True, **settings: str) -> list[str]:
        async with opened(crowd_url, watch, tmp_path_factory.mktemp("shop"), **settings) as shop:
            with calls_noted(seen.calls), prepared_noted(seen.prepared):
                return await run(shop, watch, is_meant=is_meant)

    watch = PlanWatch()
    seen.wrong = await wrong()
    seen.wrong_for_any_value = await wrong(
        plan_cache_mode="force_generic_plan", is_meant=lambda told: told.statement in seen.prepared
    )
    begun = len(watch.told)
    await wrong(enable_seqscan="off")
    exempt = {query.name for query in REGISTER if query.reads_all}
    for told in watch.told[begun:]:
        if told.query not in exempt:
            seen.without_index += [f"{told.query}: {table}: {told.statement}" for table in told.read_whole]
    seen.told = watch.told
    return seen


@contextmanager
def prepared_noted(prepared: set[str]) -> Iterator[None]:
    """With $1 for a value, as the server tells them."""
    send = psycopg.AsyncCursor._maybe_prepare_gen  # noqa: SLF001 - where they have become so

    def noted(cursor: psycopg.AsyncCursor[Any], query: Any, *, prepare: bool | None = None, **named: Any) -> Any:
        if prepare:
            prepared.add(" ".join(query.query.decode().split()))
        return send(cursor, query, prepare=prepare, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.AsyncCursor, "_maybe_prepare_gen", noted)
        yield


@contextmanager
def calls_noted(calls: set[tuple[str, int]]) -> Iterator[None]:
    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        def send(*args: Any, **kwargs: Any) -> Any:
            caller = sys._getframe(1)  # noqa: SLF001 - who calls can't be known otherwise
            path = Path(caller.f_code.co_filename)
            if _APP in path.parents:
                calls.add((path.relative_to(_APP).as_posix(), caller.f_lineno))
            return method(*args, **kwargs)

        return send

    with pytest.MonkeyPatch.context() as patch:
        for name in _SENDING:
            patch.setattr(AsyncConnection, name, noting(getattr(AsyncConnection, name)))
        for name in _RUNNING:
            patch.setattr(Direct, name, noting(getattr(Direct, name)))
        yield


_SENDING = ("execute", "scalar", "scalars")
_RUNNING = ("run", "one_or_none")
"""Of a `Direct`, which is known by its name: a constant's."""


def _sends(method: ast.Attribute) -> bool:
    is_constant = isinstance(method.value, ast.Name) and method.value.id.isupper()
    return method.attr in _SENDING or (method.attr in _RUNNING and is_constant)


def calls_in(path: Path) -> Iterator[tuple[str, range]]:
    """Of each call that sends a statement, the function's name and its lines."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _sends(node.func):
                    yield function.name, range(node.lineno, (node.end_lineno or node.lineno) + 1)


async def test_no_statement_reads_more_than_what_it_is_about(seen: Seen) -> None:
    assert seen.wrong == []


async def test_no_prepared_statement_does_so_when_its_plan_is_made_for_any_value(seen: Seen) -> None:
    assert "\n".join(seen.wrong_for_any_value) == ""
    assert len({told.statement for told in seen.told} & seen.prepared) > 20  # they are recognised


async def test_no_statement_reads_a_growing_table_from_end_to_end(seen: Seen) -> None:
    assert seen.without_index == []


async def test_every_statement_that_the_application_sends_is_on_the_register(seen: Seen) -> None:
    missing, there = [], set()
    for path in sorted(_APP.rglob("*.py")):
        file = path.relative_to(_APP).as_posix()
        for function, lines in calls_in(path):
            there.add((file, function))
            is_excused = file in DO_NOT_GROW or (file, function) in NOT_RUN
            if not is_excused and not any((file, line) in seen.calls for line in lines):
                missing.append(f"{file}:{lines.start} in {function}")
    assert "\n".join(missing) == ""
    assert NOT_RUN.keys() <= there


async def test_every_index_of_a_growing_table_is_used_or_holds_a_rule(seen: Seen, crowd_url: str) -> None:
    used = {index for told in seen.told for index in told.indexes}
    asked = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = ANY(%s::regclass[]) AND NOT indisunique"
    with psycopg.connect(crowd_url) as connection:
        there = {name for (name,) in connection.execute(asked, (sorted(GROWING),))}
    unused = {name for name in there - used if not name.startswith(("procrastinate_", "idx_procrastinate_"))}
    assert unused == KEPT.keys() - used


async def test_the_page_tells_what_each_of_them_is_for(crowd_url: str) -> None:
    asked = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = ANY(%s::regclass[])"
    with psycopg.connect(crowd_url) as connection:
        there = {name for (name,) in connection.execute(asked, (sorted(GROWING),))}
    rows = re.findall(r"^\| (`\w*(?:pk|uq|ix|procrastinate)\w*`[^|]*) \|", _PAGE.read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} - GROWING == there


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("SELECT max(customer_name) FROM orders", "all of orders"),
        ("SELECT id FROM esim_profiles WHERE provider_reference = 'order-7' ORDER BY id LIMIT 1", "rows"),
        (
            "SET enable_seqscan = off; SELECT id FROM outgoing_mails WHERE profile_id > 0 AND kind = 'none'",
            "blocks of outgoing",
        ),
    ],
)
async def test_what_grows_is_seen(crowd_url: str, tmp_path: Path, statement: str, fault: str) -> None:
    watch = PlanWatch()
    async with opened(crowd_url, watch, tmp_path) as shop:
        with watch.query("a bad one"):
            async with shop.house.db.read() as connection:
                await connection.exec_driver_sql(statement)
    [told] = watch.told
    assert fault in " ".join(told.faults(300))


async def test_every_growing_table_is_in_the_crowd(crowd_url: str) -> None:
    """What a shop may have many of is what the crowd has many of."""
    few = {
        "alembic_version", "encryption_keys", "installation", "plan_codes", "plans", "provider_states", "service_keys",
        "webhook_endpoints", "procrastinate_workers", "procrastinate_periodic_defers", "forgotten_attempts",
    }  # fmt: skip
    with psycopg.connect(crowd_url) as connection:
        there = {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert there == {rows.table for rows in TABLES} | few
