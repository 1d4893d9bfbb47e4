import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
import structlog
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from app.db import Database
from app.logs import configure_logging
from app.main import create_app
from app.settings import Settings
from tests.api.serving import Shop, open_shop, served
from tests.stand_in import StandIn

KEY = "dGVzdC1rZXktdGVzdC1rZXktdGVzdC1rZXktMDAwMDE="
API_KEY = "key-of-tests"
_numbers = count(1)


@pytest.fixture(scope="package", autouse=True)
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StringIO]:
    """What the servers log, as `tribi serve` does; their files go to a folder of the tests' own."""
    stream, hook, config = StringIO(), sys.excepthook, structlog.get_config()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIBI_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        configure_logging(json=True, stream=stream)
        yield stream
    structlog.configure(**config)
    for handler in logging.root.handlers[:]:
        if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
            logging.root.removeHandler(handler)
    logging.captureWarnings(capture=False)
    sys.excepthook = hook


@contextmanager
def a_database(postgres_url: str, template: str = "template_tribi") -> Iterator[str]:
    """A database for as long as it takes; with `template1` as template one that was never migrated."""
    name = f"api_{os.getpid()}_{next(_numbers)}"
    parts = conninfo_to_dict(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield f"postgresql://{parts['user']}@/{name}?host={parts['host']}&port={parts['port']}"
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def settings_on(database_url: str, **more: Any) -> Settings:
    """ConnectedYou in a dry run, unless told otherwise."""
    values = {"esim_provider": "CONNECTED_YOU", "connected_you_partner_id": "partner-of-tests"} | more
    return Settings(database_url=SecretStr(database_url), encryption_key=SecretStr(KEY), **values)


def live_at(supplier: StandIn, **more: Any) -> dict[str, Any]:
    """Settings to buy at a stand-in."""
    return {
        "connected_you_dry_run": False,
        "connected_you_base_url": supplier.url,
        "connected_you_api_key": SecretStr(API_KEY),
        "connected_you_timeout_seconds": 5,
        "provider_circuit_failures": 0,  # one supplier for all tests, and most of them are about its failures
    } | more


@asynccontextmanager
async def a_shop(settings: Settings) -> AsyncIterator[Shop]:
    """A server with these settings, and a shop that is its client."""
    assert settings.database_url is not None
    async with AsyncExitStack() as stack:
        db = Database(settings.database_url.get_secret_value(), pool_size=8)
        stack.push_async_callback(db.close)
        server = stack.enter_context(served(settings))
        shop = await open_shop(server.url, db)
        stack.push_async_callback(shop.http.close)
        yield shop


@pytest.fixture(scope="package")
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return create_app(Settings()).app.openapi()


# Shared: a test looks at nothing but what it made itself.


@pytest.fixture(scope="package")
async def shop(postgres_url: str) -> AsyncIterator[Shop]:
    """ConnectedYou in a dry run."""
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url)) as shop:
            yield shop


@pytest.fixture(scope="package")
async def local_shop(postgres_url: str) -> AsyncIterator[Shop]:
    """LOCAL."""
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url, esim_provider="LOCAL")) as shop:
            yield shop


@pytest.fixture(params=["connected_you dry run", "local"])
def each_shop(request: pytest.FixtureRequest, shop: Shop, local_shop: Shop) -> Shop:
    return local_shop if request.param == "local" else shop


@pytest.fixture(scope="package")
async def supplier() -> AsyncIterator[StandIn]:
    """ConnectedYou's stand-in, for `live_shop`; its faults are told by order, see `script`."""
    async with StandIn(api_key=API_KEY) as stand_in:
        yield stand_in
        assert stand_in.violations == []


@pytest.fixture(scope="package")
async def live_shop(postgres_url: str, supplier: StandIn) -> AsyncIterator[Shop]:
    """Buys at `supplier`."""
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url, **live_at(supplier))) as shop:
            yield shop


def script(supplier: StandIn, fault: Any, order: dict[str, Any]) -> None:
    """The next request for this order meets this fault."""
    supplier.script(fault, reference=f"order-{order['id']}")


def requests_for(supplier: StandIn, order: dict[str, Any]) -> int:
    return len(supplier.requests_for(f"order-{order['id']}"))


# A test's own.


@pytest.fixture
async def own_supplier(tmp_path: Path) -> AsyncIterator[StandIn]:
    async with StandIn(ledger=tmp_path / "ledger.jsonl", fsync=False, api_key=API_KEY) as stand_in:
        yield stand_in
        assert stand_in.violations == []


class OpenLive(Protocol):
    async def __call__(self, **more: Any) -> Shop: ...


@pytest.fixture
async def open_live(postgres_url: str, own_supplier: StandIn) -> AsyncIterator[OpenLive]:
    """Opens a shop that buys at `own_supplier`, with these settings besides; closed at the end of the test."""
    async with AsyncExitStack() as stack:

        async def open_one(**more: Any) -> Shop:
            url = stack.enter_context(a_database(postgres_url))
            return await stack.enter_async_context(a_shop(settings_on(url, **live_at(own_supplier, **more))))

        yield open_one
        own_supplier.release()
