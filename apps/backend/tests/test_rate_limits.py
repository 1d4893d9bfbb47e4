"""Limits are counted in the database: for all processes together, and whatever they were before."""

import asyncio

import pytest
from sqlalchemy import text

from app.db import Database
from app.errors import DatabaseUnavailable, RateLimited
from app.house import House
from app.rate_limits import Limit, forget_full_buckets, take

FIVE = Limit("five an hour", 5, 3600)
TWO = Limit("two a minute", 2, 60)


async def passes(house: House, *asked: tuple[Limit, str]) -> bool:
    try:
        async with house.db.begin() as connection:
            await take(connection, house.vault, *asked)
    except RateLimited:
        return False
    return True


async def time_passes(house: House, seconds: float) -> None:
    async with house.db.begin() as connection:
        await connection.execute(
            text("UPDATE rate_limits SET free_at = free_at - make_interval(secs => :seconds)"), {"seconds": seconds}
        )


async def rows(house: House) -> int:
    async with house.db.read() as connection:
        return int(await connection.scalar(text("SELECT count(*) FROM rate_limits")) or 0)


@pytest.mark.parametrize("most", [1, 2, 3, 6, 7, 1000])
async def test_so_many_pass_at_once_and_no_more(house: House, most: int) -> None:
    limit = Limit("of this test", most, 10**6)
    async with house.db.begin() as connection:
        for _ in range(most):
            await take(connection, house.vault, (limit, "ana"))
    assert not await passes(house, (limit, "ana"))


async def test_who_is_refused_is_told_for_how_long(house: House) -> None:
    for _ in range(5):
        assert await passes(house, (FIVE, "ana"))
    with pytest.raises(RateLimited) as refused:
        async with house.db.begin() as connection:
            await take(connection, house.vault, (FIVE, "ana"))
    assert refused.value.retry_after_s in range(715, 721)
    await time_passes(house, refused.value.retry_after_s or 0)
    assert await passes(house, (FIVE, "ana"))
    assert not await passes(house, (FIVE, "ana"))


async def test_one_comes_back_at_a_time(house: House) -> None:
    for _ in range(5):
        await passes(house, (FIVE, "ana"))
    await time_passes(house, 1450)
    assert [await passes(house, (FIVE, "ana")) for _ in range(3)] == [True, True, False]


async def test_each_counts_for_itself(house: House) -> None:
    assert [await passes(house, (TWO, "ana")) for _ in range(3)] == [True, True, False]
    assert await passes(house, (TWO, "bob"))
    assert await passes(house, (FIVE, "ana"))


async def test_a_refusal_takes_from_none_of_several(house: House) -> None:
    for _ in range(2):
        await passes(house, (TWO, "a client"))
    for _ in range(10):
        assert not await passes(house, (FIVE, "ana"), (TWO, "a client"))
    assert [await passes(house, (FIVE, "ana")) for _ in range(6)] == [True] * 5 + [False]


async def test_fifty_at_once_by_two_processes_are_no_more_than_the_limit(house: House, database_url: str) -> None:
    other = House(house.settings, Database(database_url, pool_size=8), house.keyring, house.vault)
    passed = await asyncio.gather(
        *(passes(one, (TWO, f"a client {n % 3}"), (FIVE, "ana")) for n in range(25) for one in (house, other))
    )
    await other.db.close()
    assert sum(passed) == 5


async def test_who_asks_for_the_same_in_another_order_waits_for_nobody_for_ever(house: House) -> None:
    """Two that lock the same buckets crosswise would end with a deadlock, which is an error."""
    many = Limit("of this test", 1000, 3600)
    asked = [(many, f"client {n}") for n in range(200)]
    passed = await asyncio.gather(*(passes(house, *(asked if n % 2 else asked[::-1])) for n in range(40)))
    assert all(passed)


async def test_whom_it_is_for_is_not_on_file(house: House) -> None:
    await passes(house, (FIVE, "ana@example.com"))
    async with house.db.read() as connection:
        row = (await connection.execute(text("SELECT rate_limits::text AS row FROM rate_limits"))).one()
    assert "ana" not in row.row
    assert b"ana".hex() not in row.row


async def test_full_buckets_are_forgotten_and_others_are_not(house: House) -> None:
    await passes(house, (TWO, "ana"), (FIVE, "ana"))
    await time_passes(house, 31)
    async with house.db.begin() as connection:
        await forget_full_buckets(connection)
    assert await rows(house) == 1


async def test_a_limit_that_cannot_be_counted_lets_nobody_pass(house: House) -> None:
    away = House(house.settings, Database("postgresql://nobody@127.0.0.1:1/none"), house.keyring, house.vault)
    with pytest.raises(DatabaseUnavailable):
        await passes(away, (FIVE, "ana"))
    await away.db.close()
