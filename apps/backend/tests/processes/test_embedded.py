"""Without DATABASE_URL: the programs of one data folder share a database server of their own, which goes with the last of them."""

import asyncio
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.serving import a_name, a_wish
from tests.postgres.clients import a_folder, is_idle, using
from tests.processes.installations import Installation, Server, an_installation
from tests.processes.programs import until

CATALOGUE = """\
sku,name,country_iso2,data_mb,validity_days,price_minor,currency,connected_you_plan_code
es-5gb-30d,Spain 5 GB,ES,5120,30,1290,EUR,CY-ES-5GB
"""
WISH = a_wish("es-5gb-30d")


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """Nothing was ever started in it. Everything is made by commands and requests."""
    with a_folder() as folder:
        async with an_installation(tmp_path_factory.mktemp("site"), "postgresql://tribi@/none") as made:
            del made.settings["DATABASE_URL"], made.settings["ENCRYPTION_KEY"]
            made.settings["TRIBI_DATA_DIR"] = str(folder / "data")
            yield made


@pytest.fixture(scope="module")
def data_dir(site: Installation) -> Path:
    return Path(site.settings["TRIBI_DATA_DIR"])


@pytest.fixture(scope="module")
async def first(site: Installation) -> Server:
    """Its first programs all started at once: this server with two workers, and a command that made a key."""
    server = site.start_server("--workers", "2")
    done = await site.run("keys", "create", "shop", "--scope", "orders", "--scope", "esims")
    assert done.status == 0, done.stderr
    site.secret = done.stdout.strip()
    server.shop.bearer["Authorization"] = f"Bearer {site.secret}"
    await until(server.is_ready)
    return server


@pytest.fixture(scope="module")
async def stocked(site: Installation, first: Server) -> Installation:
    catalogue = site.folder / "catalogue.csv"
    catalogue.write_text(CATALOGUE)
    done = await site.run("catalogue", "import", str(catalogue), "--yes")
    assert done.status == 0, done.stderr
    return site


async def test_programs_that_start_at_once_in_a_new_folder_share_one_database(
    stocked: Installation, first: Server
) -> None:
    assert (await first.get("/api/orders")).status == 200  # with the key that the command made
    assert [plan["sku"] for plan in (await first.get("/api/plans")).json()["items"]] == ["es-5gb-30d"]


def test_the_encryption_key_is_made_once_for_its_owner_alone(stocked: Installation, data_dir: Path) -> None:
    assert stat.S_IMODE((data_dir / "encryption.key").stat().st_mode) == 0o600
    assert not list(data_dir.glob(".encryption.key*"))


async def test_the_database_server_ends_after_the_last_program(
    stocked: Installation, first: Server, data_dir: Path
) -> None:
    second = await stocked.serve()
    first.send(signal.SIGTERM)
    assert await first.ended() == 0
    assert (await second.get("/api/orders")).status == 200
    second.send(signal.SIGTERM)
    assert await second.ended() == 0
    await until(lambda: is_idle(data_dir) and not using(data_dir), limit_s=10)


async def test_after_a_kill_nothing_is_left_running_and_the_next_start_has_all_orders(
    stocked: Installation, data_dir: Path
) -> None:
    server = await stocked.serve()
    placed = await server.shop.place(WISH, key=a_name("key"))
    order = placed.json()
    esim = (await server.activate(order["id"])).json()
    await server.kill()
    await until(lambda: is_idle(data_dir) and not using(data_dir), limit_s=10)

    server = await stocked.serve()
    assert (await server.get(f"/api/esims/{esim['id']}")).json()["activation_code"] == esim["activation_code"]
    again = await server.activate(order["id"])
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert len(stocked.issued(order["id"])) == 1
    await asyncio.to_thread(server.clear_away)


async def test_a_key_file_that_was_lost_stops_the_start(stocked: Installation, data_dir: Path) -> None:
    """A new key would be made, which opens nothing of what the database holds."""
    kept = (data_dir / "encryption.key").read_bytes()
    (data_dir / "encryption.key").unlink()
    try:
        done = await stocked.run("serve", "--port", "0")
    finally:
        (data_dir / "encryption.key").write_bytes(kept)
    assert done.status != 0
    complaints = [line for line in done.complaints if not line.startswith("{")]
    assert len(complaints) == 1, done.stderr
    assert complaints[0].startswith("tribi: ENCRYPTION_KEY: this database was sealed with another key")
