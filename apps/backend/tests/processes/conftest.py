from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.processes.installations import Installation, Server, a_database, an_installation
from tests.processes.programs import until


@pytest.fixture
async def installation(tmp_path: Path, database_url: str) -> AsyncIterator[Installation]:
    """An installation of the test's own, with a plan on sale and a service key; no program runs yet."""
    async with an_installation(tmp_path, database_url) as made:
        await made.stock()
        yield made


@pytest.fixture(scope="module")
async def site(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """One for all tests of a module: they look at nothing but their own orders."""
    async with an_installation(tmp_path_factory.mktemp("site"), a_database(postgres_url)) as made:
        await made.stock()
        yield made


@pytest.fixture(scope="package")
async def shared(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """One for all tests that leave it and `servers` as they were."""
    async with an_installation(tmp_path_factory.mktemp("shared"), a_database(postgres_url)) as made:
        await made.stock()
        yield made


@pytest.fixture(scope="package")
async def servers(shared: Installation) -> list[Server]:
    """Two, on the shared database, behind one address."""
    two = [shared.start_server(PUBLIC_URL="https://shop.example") for _ in range(2)]
    for server in two:
        await until(server.is_ready)
    return two
