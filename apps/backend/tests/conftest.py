"""A real PostgreSQL for every test that wants one: started once, migrated once into a template, copied for each test."""

import os

# Before anything of `app` is imported: no test may see the developer's own settings, which may be live.
_OURS = (
    "CONNECTED_YOU_",
    "ESIM_",
    "TRIBI_",
    "DATABASE_",
    "ENCRYPTION_",
    "ACTIVATION_",
    "PROVIDER_",
    "LIVE_",
    "KEY_",
    "TRUSTED_",
    "PUBLIC_",
    "INSTALL_",
    "SHUTDOWN_",
    "LOG_",
    "SMTP_",
    "MAIL_",
    "WEBHOOKS_",
)
_DEVELOPERS = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_OURS)}
os.environ["TRIBI_ENV_FILE"] = os.devnull

import gc
import itertools
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import structlog
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from structlog.dev import ConsoleRenderer, plain_traceback

from app import schema
from app.db import Database
from app.house import House
from app.postgres import hold
from app.settings import Settings
from app.vault import Keyring, Vault
from tests.pgbouncer import PgBouncer, pgbouncer_before

if TYPE_CHECKING:
    from playwright.async_api import Browser

KEY = "dGVzdC1rZXktdGVzdC1rZXktdGVzdC1rZXktMDAwMDE="
"""An ENCRYPTION_KEY for tests."""

# Out of the box a traceback is drawn in boxes and colours, which was a third of what the tests of failures cost.
structlog.configure(
    processors=[*structlog.get_config()["processors"][:-1], ConsoleRenderer(exception_formatter=plain_traceback)]
)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would every program that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_ROOM_BYTES = 2 * 1024**3

_numbers = itertools.count(1)

SERVER = "TESTS_POSTGRES_URL"
"""A server that outlives this process, for many that run tests one after another (`chaos/g23.py`)."""

_HANGS_AFTER_S = 25
_PGBOUNCER = pytest.StashKey[PgBouncer]()
_PROOF = Path(__file__).parent / "proof"


@pytest.fixture(autouse=True)
def _hanging_is_noticed() -> Iterator[None]:
    """A mutant whose answer can't be stored keeps it for ever: then the process ends, with the status of a test that fails."""
    if SERVER not in os.environ:
        yield
        return
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
    signal.alarm(_HANGS_AFTER_S)
    yield
    signal.alarm(0)


@pytest.fixture(scope="session")
def developers_environment() -> Mapping[str, str]:
    """What was taken away above: for those tests alone that somebody has asked for by a variable of their own."""
    return _DEVELOPERS


@pytest.fixture(scope="session")
def quick_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """
    Where databases of tests lie: in memory where there is room for them. One is made and dropped for each test, and each time
    PostgreSQL waits for the disk.
    """
    memory = Path("/dev/shm")  # noqa: S108 - a folder with a random name is made in it
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM_BYTES:
        with tempfile.TemporaryDirectory(prefix="tribi-tests-", dir=memory, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    else:
        yield tmp_path_factory.mktemp("postgres")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--through-pgbouncer",
        action="store_true",
        help="the tests on the shared database server alone, with PgBouncer in transaction mode in front of it",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if SERVER in os.environ:
        # They come in any order. File by file, so that what is made once for a module isn't made again and again.
        items.sort(key=lambda item: (not item.path.name.startswith(_soonest_noticed_by()), item.path))
        gc.freeze()  # what all mutants were forked with needn't be looked through for each
    if config.getoption("--through-pgbouncer"):
        chosen = [item for item in items if _goes_through_pgbouncer(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def _soonest_noticed_by() -> tuple[str, ...]:
    """Beginnings of the names of the modules by which the present mutant probably dies."""
    from mutmut.mutation.trampoline import get_mutant_under_test

    if ".esim_providers." in get_mutant_under_test():
        return ("test_esim_providers",)
    return ("test_traces", "test_late", "test_joining")


def _goes_through_pgbouncer(item: pytest.Item) -> bool:
    """By its fixture, so that no new test is forgotten. Of the proof, which takes minutes, what asks for it."""
    if _PROOF in item.path.parents:
        return item.get_closest_marker("through_pgbouncer") is not None
    return "postgres_url" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("without_pgbouncer")


@pytest.fixture(scope="session")
def server_url(quick_folder: Path) -> Iterator[str]:
    """A server with a migrated database `template_tribi`; the mutation run has one for all its mutants."""
    if SERVER in os.environ:
        yield os.environ[SERVER]
        return
    with hold(quick_folder / "shared") as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE template_tribi")
        schema.migrate(other_database(server.url, "template_tribi"))
        yield server.url


@pytest.fixture(scope="session")
def is_through_pgbouncer(request: pytest.FixtureRequest) -> bool:
    """For tests that have a database server of their own."""
    return bool(request.config.getoption("--through-pgbouncer"))


@pytest.fixture(scope="session")
def postgres_url(server_url: str, is_through_pgbouncer: bool, request: pytest.FixtureRequest) -> Iterator[str]:
    """That server; with --through-pgbouncer by way of PgBouncer."""
    if is_through_pgbouncer:
        with pgbouncer_before(server_url) as pgbouncer:
            request.config.stash[_PGBOUNCER] = pgbouncer
            yield pgbouncer.url
            del request.config.stash[_PGBOUNCER]
    else:
        yield server_url


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Nothing may be left over in a session that others get next; looked at before the fixtures drop the databases."""
    pgbouncer = item.config.stash.get(_PGBOUNCER, None)
    left_over = pgbouncer.left_over() if pgbouncer is not None else []
    yield
    assert left_over == []


def other_database(url: str, name: str) -> str:
    parts = conninfo_to_dict(url)
    return f"postgresql://{parts['user']}@/{name}?host={parts['host']}&port={parts['port']}"


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_tribi")
        yield other_database(postgres_url, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def direct_url(database_url: str, server_url: str) -> str:
    """The test's database, with nothing in between: to look at sessions of the server."""
    return other_database(server_url, str(conninfo_to_dict(database_url)["dbname"]))


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=8)
    yield database
    await database.close()


@pytest.fixture
def settings(database_url: str) -> Settings:
    """ConnectedYou in a dry run, on the test's database."""
    return Settings(
        esim_provider="CONNECTED_YOU",
        connected_you_partner_id="partner-of-tests",
        database_url=SecretStr(database_url),
        encryption_key=SecretStr(KEY),
    )


@pytest.fixture
async def house(settings: Settings, db: Database) -> House:
    house = House(settings, db, Keyring.parse(KEY))
    await house.settle()
    return house


@pytest.fixture
async def vault(house: House) -> Vault:
    return house.vault


@pytest.fixture(scope="session")
async def chromium() -> "AsyncIterator[Browser]":
    """One browser for the whole run; each test opens what it needs with `tests.chromium.a_page`."""
    from tests.chromium import launched  # only tests with a browser need it

    async with launched() as browser:
        yield browser
