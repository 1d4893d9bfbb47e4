"""The day after a disaster, with the commands that an operator types: backup, restore, hold, recover, go on."""

import json
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.serving import a_name, a_wish
from tests.postgres.clients import a_folder
from tests.processes.installations import Installation, Server, an_installation
from tests.processes.test_embedded import CATALOGUE

WISH = a_wish("es-5gb-30d")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Installation]:
    with a_folder() as folder:
        async with an_installation(tmp_path, "postgresql://tribi@/none") as made:
            del made.settings["DATABASE_URL"], made.settings["ENCRYPTION_KEY"]
            made.settings |= {"TRIBI_DATA_DIR": str(folder / "data"), "TRIBI_JOURNAL_DIR": str(folder / "journal")}
            yield made


async def succeeds(site: Installation, *arguments: str) -> str:
    done = await site.run(*arguments)
    assert done.status == 0, done.stderr
    return done.stdout


async def stopped(server: Server) -> int:
    server.send(signal.SIGTERM)
    return await server.ended()


async def bought(server: Server, cart: str) -> tuple[int, int]:
    """The storefront's two calls for a cart: the order's number, and what its activation was answered with."""
    order_id = (await server.shop.place(WISH, key=cart)).json()["id"]
    return order_id, (await server.activate(order_id)).status


async def test_after_a_restore_nothing_is_bought_twice_and_all_goes_on(site: Installation, tmp_path: Path) -> None:
    (tmp_path / "catalogue.csv").write_text(CATALOGUE)
    await succeeds(site, "catalogue", "import", "catalogue.csv", "--yes")
    site.secret = (await succeeds(site, "keys", "create", "shop", "--scope", "orders", "--scope", "esims")).strip()
    before, after = a_name("cart"), a_name("cart")
    server = await site.serve()
    assert (await bought(server, before))[1] == 201
    await succeeds(site, "backup", "dump")
    order_id, status = await bought(server, after)
    assert status == 201
    assert await stopped(server) == 0

    old, new = Path(site.settings["TRIBI_DATA_DIR"]), Path(site.settings["TRIBI_DATA_DIR"]).with_name("restored")
    new.mkdir(mode=0o711)
    shutil.copy2(old / "encryption.key", new)
    site.settings["TRIBI_DATA_DIR"] = str(new)
    await succeeds(site, "restore", "dump")

    server = await site.serve()
    assert "held_since" in (await server.get("/readyz")).json()
    assert (await server.shop.place(WISH)).problem == (503, "provider-paused")
    assert (await bought(server, before))[1] == 200

    recovery = json.loads(await succeeds(site, "recover", "--json"))
    assert [(one["order_reference"], one["status"]) for one in recovery["forgotten"]] == [(f"order-{order_id}", None)]
    assert await bought(server, after) == (order_id, 409)
    assert (await bought(server, a_name("cart")))[1] == 201
    assert len(site.issued(order_id)) == 1
    assert await stopped(server) == 0
