"""How many statements the most frequent requests ask of the database: as many as they need, told by the server itself."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.api.conftest import a_database, a_shop, live_at, settings_on
from tests.api.serving import Shop
from tests.bench.overhearing import STATEMENTS
from tests.bench.statements import Statement, overheard, without_background
from tests.builders import a_session
from tests.stand_in import StandIn

_READS = {
    "/api/esims/{esim}": 2,
    "/api/orders/{order}": 3,
    "/api/orders": 3,
    "/api/esims": 2,
}
_PUBLIC = {"/api/plans": 1, "/healthz": 0}


@dataclass(frozen=True)
class Watched:
    shop: Shop
    heard: list[Statement]

    def shapes(self) -> list[str]:
        """Of what was executed since the last call."""
        found = [statement.shape for statement in self.heard]
        self.heard.clear()
        return found


@pytest.fixture(scope="module")
async def watched(postgres_url: str, supplier: StandIn) -> AsyncIterator[Watched]:
    with a_database(postgres_url) as url, overheard(url) as heard, without_background():
        # With order numbers of its own: `live_shop` buys at the same supplier, and its tests count what was sent for theirs.
        async with a_shop(settings_on(url, order_id_start=1_000_000, **live_at(supplier))) as shop:
            await _activated(
                shop
            )  # what is done once: the key's use is noted, the journal's first line has none before it
            heard.clear()
            yield Watched(shop, heard)


async def _activated(shop: Shop) -> dict[str, int]:
    order = await shop.ordered()
    reply = await shop.activate(order["id"])
    assert reply.status == 201
    return {"order": order["id"], "esim": reply.json()["id"]}


async def test_an_activation_and_another_one(watched: Watched) -> None:
    order = await watched.shop.ordered()
    watched.shapes()
    assert (await watched.shop.activate(order["id"])).status == 201
    first = watched.shapes()
    assert (await watched.shop.activate(order["id"])).status == 200
    again = watched.shapes()
    assert len(first) == STATEMENTS["activation"], first
    assert (first.count("BEGIN"), first.count("COMMIT")) == (2, 2)
    assert len(again) == STATEMENTS["repeat activation"], again


@pytest.mark.parametrize("path", _READS)
async def test_a_read_by_key(watched: Watched, path: str) -> None:
    made = await _activated(watched.shop)
    watched.shapes()
    assert (await watched.shop.get(path.format(**made))).status == 200
    asked = watched.shapes()
    # Who asks, and for which eSIM, is one question.
    assert len(asked) == (STATEMENTS["read"] if path == "/api/esims/{esim}" else _READS[path]), asked


@pytest.mark.parametrize("path", _READS)
async def test_a_read_by_a_traveller(watched: Watched, path: str) -> None:
    made = await _activated(watched.shop)
    session = {"Authorization": f"Bearer {await a_session(watched.shop.db)}"}
    watched.shapes()
    assert (await watched.shop.get(path.format(**made), headers=session)).status == 200
    asked = watched.shapes()
    assert len(asked) == _READS[path], asked


@pytest.mark.parametrize("path", _PUBLIC)
async def test_what_anybody_may_read(watched: Watched, path: str) -> None:
    watched.shapes()
    assert (await watched.shop.get(path, anonymous=True)).status == 200
    asked = watched.shapes()
    assert len(asked) == _PUBLIC[path], asked
