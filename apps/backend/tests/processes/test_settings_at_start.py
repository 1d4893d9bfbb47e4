"""What is wrong with the settings is said at the start, in one line for each mistake."""

from base64 import b64encode

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from app.house import House
from app.settings import Settings
from app.vault import Keyring
from tests.conftest import KEY
from tests.processes.installations import Installation
from tests.processes.programs import Done, until

OTHER_KEY = b64encode(b"another key, of thirty-two bytes").decode()


@pytest.fixture(scope="module")
async def site(site: Installation) -> Installation:
    """Its database has been used."""
    await House(Settings(), site.db, Keyring.parse(KEY)).settle()
    return site


def lines_of(done: Done) -> list[str]:
    """What it says to whoever started it, besides the log."""
    assert done.status != 0
    assert done.stdout == ""
    lines = [line for line in done.complaints if not line.startswith("{")]
    assert all(line.startswith("tribi: ") for line in lines), done.stderr
    return [line.removeprefix("tribi: ") for line in lines]


async def test_a_missing_key_stops_the_start(site: Installation) -> None:
    [line] = lines_of(await site.run("serve", "--port", "0", ENCRYPTION_KEY=None))
    assert line.startswith("ENCRYPTION_KEY: required with DATABASE_URL; `openssl rand -base64 32` makes one")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_another_key_than_the_databases_stops_the_start(site: Installation, workers: str) -> None:
    [line] = lines_of(await site.run("serve", "--port", "0", "--workers", workers, ENCRYPTION_KEY=OTHER_KEY))
    assert line.startswith("ENCRYPTION_KEY: this database was sealed with another key (")
    assert OTHER_KEY not in line


async def test_each_mistake_has_its_line(site: Installation) -> None:
    changes = {
        "ESIM_PROVIDER": "AIRALO",
        "CONNECTED_YOU_TIMEOUT_SECONDS": "soon",
        "CONNECTED_YOU_BASE_URL": "http://api.example.com",
        "ENCRYPTION_KEY": "too short",
    }
    lines = lines_of(await site.run("serve", "--port", "0", **changes))
    assert sorted(line.partition(":")[0] for line in lines) == sorted(changes)


async def test_an_address_that_is_taken_stops_the_start(site: Installation) -> None:
    taken = site.supplier.url.rpartition(":")[2]
    [line] = lines_of(await site.run("serve", "--port", taken))
    assert line.startswith(f"cannot listen on 127.0.0.1:{taken}: ")


async def test_missing_credentials_are_a_warning_and_fail_each_activation_unsent(site: Installation) -> None:
    server = await site.serve(CONNECTED_YOU_API_KEY=None, CONNECTED_YOU_PARTNER_ID=None)
    [warning] = server.events("server.provider_not_configured")
    assert warning["level"] == "warning"
    assert warning["missing"] == ["CONNECTED_YOU_PARTNER_ID", "CONNECTED_YOU_API_KEY"]
    order_id = await site.order()
    assert (await server.activate(order_id)).problem == (502, "provider-not-configured")
    assert await site.status(order_id) == "pending"
    assert (await site.supplier.get("state"))["requests"] == 0


@pytest.mark.without_pgbouncer  # it copies a database, to which nobody may be connected
async def test_workers_that_learn_of_another_key_only_later_end_their_server(
    installation: Installation, postgres_url: str
) -> None:
    """The database wasn't there when they started."""
    await House(Settings(), installation.db, Keyring.parse(KEY)).settle()
    await installation.db.close()
    url = installation.settings["DATABASE_URL"]
    name = str(conninfo_to_dict(url)["dbname"])
    late = f"{name}_late"
    changes = {"ENCRYPTION_KEY": OTHER_KEY, "DATABASE_URL": url.replace(f"/{name}", f"/{late}")}
    server = installation.start_server("--workers", "2", **changes)
    await until(lambda: len(server.events("server.started")) == 2)
    assert await server.answers("/readyz") == 503
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(late), Identifier(name)))
    assert await server.ended() == 1
    assert server.events("server.cannot_go_on")
    assert len(server.events("server.started")) == 2
