"""Lists: pages by cursor, newest first."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.conftest import a_database, a_shop, settings_on
from tests.api.serving import Shop, a_wish
from tests.builders import a_plan

LISTS = ["/api/orders", "/api/esims"]


@pytest.fixture(scope="module")
async def many(postgres_url: str) -> AsyncIterator[Shop]:
    """A shop with nothing but 45 orders and their 45 eSIMs."""
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url)) as shop:
            sku = await a_plan(shop.db)
            for _ in range(9):
                await asyncio.gather(*(shop.place(a_wish(sku)) for _ in range(5)))
            yield shop


async def pages(shop: Shop, path: str, limit: int) -> AsyncIterator[list[dict[str, Any]]]:
    cursor = ""
    while True:
        reply = await shop.get(f"{path}?limit={limit}{cursor}")
        assert reply.status == 200
        page = reply.json()
        assert set(page) == {"items", "next_cursor"}
        assert len(page["items"]) <= limit
        yield page["items"]
        if page["next_cursor"] is None:
            return
        assert len(page["items"]) == limit
        cursor = f"&cursor={page['next_cursor']}"


@pytest.mark.parametrize("limit", [1, 7, 45, 46, 100])
@pytest.mark.parametrize("path", LISTS)
async def test_the_pages_together_are_everything_once_newest_first(many: Shop, path: str, limit: int) -> None:
    everything = (await many.get(f"{path}?limit=100")).json()["items"]
    found = [item for items in [page async for page in pages(many, path, limit)] for item in items]
    assert found == everything
    ids = [item["id"] for item in found]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) >= 45


@pytest.mark.parametrize("path", LISTS)
async def test_while_rows_are_added_nothing_that_was_there_is_missed_or_seen_twice(many: Shop, path: str) -> None:
    before = {item["id"] for item in (await many.get(f"{path}?limit=100")).json()["items"]}
    sku = await a_plan(many.db)
    found: list[int] = []
    async for items in pages(many, path, 11):
        found += [item["id"] for item in items]
        await many.place(a_wish(sku))
    assert len(found) == len(set(found))
    assert set(found) == before


async def test_items_are_what_a_look_at_each_shows(many: Shop) -> None:
    for path in LISTS:
        [item] = (await many.get(f"{path}?limit=1")).json()["items"]
        assert (await many.get(f"{path}/{item['id']}")).json() == item


async def test_without_a_limit_there_are_twenty(many: Shop) -> None:
    for path in LISTS:
        assert len((await many.get(path)).json()["items"]) == 20


@pytest.mark.parametrize("limit", ["0", "-1", "101", "x", "", "1.5", "9" * 30, "%00", "%d9%a1"])
@pytest.mark.parametrize("path", [*LISTS, "/api/plans"])
async def test_a_limit_is_1_to_100(shop: Shop, path: str, limit: str) -> None:
    reply = await shop.get(f"{path}?limit={limit}")
    assert reply.problem == (422, "validation-failed")
    assert reply.pointers == ["query: limit"]


@pytest.mark.parametrize("cursor", ["x", "", "-1", "1.5", "1%20", "1%0a", "9" * 19, "%00", "%d9%a1", "1%27--", "%ff"])
@pytest.mark.parametrize("path", [*LISTS, "/api/plans"])
async def test_a_cursor_that_no_page_gave_is_refused(shop: Shop, path: str, cursor: str) -> None:
    reply = await shop.get(f"{path}?cursor={cursor}")
    assert reply.problem == (422, "validation-failed")
    assert reply.pointers == ["query: cursor"]


@pytest.mark.parametrize("path", LISTS)
async def test_below_the_first_row_there_is_an_empty_last_page(shop: Shop, path: str) -> None:
    assert (await shop.get(f"{path}?cursor=0")).json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("path", LISTS)
async def test_a_shop_without_orders_has_empty_lists(postgres_url: str, path: str) -> None:
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url)) as shop:
            assert (await shop.get(path)).json() == {"items": [], "next_cursor": None}
