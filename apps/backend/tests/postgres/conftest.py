import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.postgres import hold
from tests.postgres.clients import a_folder, is_idle, is_stopped, query, wait_until


@pytest.fixture(scope="session")
def made_once() -> Iterator[Path]:
    """A data folder with a table `noted` (entry integer) in which 7 stands; made once, since initdb takes a second."""
    with a_folder() as folder:
        with hold(folder / "data") as server:
            query(server.url, "CREATE TABLE noted AS SELECT 7 AS entry")
        wait_until(lambda: is_stopped(folder / "data"))
        yield folder / "data"


@pytest.fixture
def data_dir(made_once: Path) -> Iterator[Path]:
    """That folder, with no server running, before and after."""
    wait_until(lambda: is_idle(made_once))
    yield made_once
    wait_until(lambda: is_idle(made_once))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the test's own."""
    with a_folder() as made:
        yield made


@pytest.fixture
def own_data_dir(folder: Path, data_dir: Path) -> Path:
    """A copy of that data folder, to do what the next test shouldn't find."""
    return shutil.copytree(data_dir, folder / "data")
