"""Asking for a code: what is on file of it, how often one may, and that nobody learns whether an address has orders."""

import asyncio
import hashlib
import re
import threading
from typing import Any

import pytest
from sqlalchemy import select, text

from app.db import Database
from app.errors import RateLimited
from app.house import House
from app.models import SignInCode
from app.queue import enqueue
from app.rate_limits import Limit
from app.services.accounts import code_hash, codes, sessions
from app.services.accounts.code_hash import COST, HASH_BYTES, SALT_BYTES, hash_code, new_salt
from app.services.accounts.codes import request_code
from app.services.accounts.forget import forget_what_is_over
from app.vault import Keyring, Place, Vault
from tests.services.accounts.conftest import ANA, CODE, asked, ordered, signed_in, time_passes, who

REAL_COST = COST


async def on_file(house: House) -> Any:
    async with house.db.read() as connection:
        return (await connection.execute(select(SignInCode.__table__).order_by(SignInCode.id))).all()


async def everything_on_file(house: House) -> str:
    """All tables as text."""
    async with house.db.read() as connection:
        names = await connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        rows = [await connection.scalars(text(f'SELECT t::text FROM "{name}" t')) for name in names]  # noqa: S608
    return "\n".join(row for found in rows for row in found)


def test_a_code_is_six_digits_that_nobody_can_foresee(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    made = {codes.new_code() for _ in range(2000)}
    assert all(re.fullmatch("[0-9]{6}", code) for code in made)
    assert len(made) > 1980
    assert len({code[0] for code in made}) == 10


async def test_it_is_stored_by_a_password_hash_with_a_salt_of_its_own(vault: Vault, monkeypatch: Any) -> None:
    """OWASP ASVS 6.5.2: at least 32 bits of salt; scrypt's N as it is in production."""
    monkeypatch.setattr(code_hash, "COST", REAL_COST)
    one, other = new_salt(), new_salt()
    stored = await hash_code(vault, CODE, one)
    assert (len(one), len(stored)) == (SALT_BYTES, HASH_BYTES) == (16, 32)
    assert REAL_COST >= 2**15
    assert await hash_code(vault, CODE, other) != stored
    without_pepper = hashlib.scrypt(CODE.encode(), salt=one, n=REAL_COST, r=8, p=1, maxmem=2**26, dklen=32)
    assert stored != without_pepper  # the database alone is not enough to guess


async def test_a_code_of_yesterdays_version_is_right_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    While processes of two versions run side by side, one looks at what the other has stored. This was scrypt with N = 2**15, r = 8
    and p = 1 over an HMAC-SHA-256.
    """
    monkeypatch.setattr(code_hash, "COST", REAL_COST)
    keys = Vault(Keyring((bytes(range(32)),)), bytes(range(32, 64)))
    stored = "7928158782bde5dfe22ea008377242321c8fe2b0ffa6842037c764ff04aee590"
    assert (await hash_code(keys, CODE, bytes(range(16)))).hex() == stored


async def test_code_and_address_are_sealed_for_their_own_place_in_the_table(house: House) -> None:
    """So that neither opens in another row, and the rotation of keys, which knows places by their names, opens both."""
    for address in (ANA, "bob@example.com"):
        await asked(house, address)
        row = (await on_file(house))[-1]
        assert house.vault.open_text(row.address, Place("sign_in_codes", "address", row.id)) == address
        assert house.vault.open_text(row.code, Place("sign_in_codes", "code", row.id)) == CODE


async def test_neither_code_nor_token_nor_address_can_be_read_in_the_database(house: House) -> None:
    token = await asked(house, "zoe@example.com")
    session = await signed_in(house, "max@example.com")
    stored = await everything_on_file(house)
    assert "travellers.sign_in_code" in stored
    for secret in (token, session.token, CODE, "zoe@"):
        assert secret not in stored
        assert secret.encode().hex() not in stored


async def test_the_same_is_on_file_whether_or_not_there_are_orders(house: House) -> None:
    await ordered(house, ANA)
    for address in (ANA, "nobody@example.com"):
        assert len(await asked(house, address)) == len("tribi_request_") + 43
    one, other = await on_file(house)
    for row in (one, other):
        assert (row.tries, row.used_at, row.sent_at, row.leased_until) == (0, None, None, None)
        assert row.code is not None
        assert (row.expires_at - row.created_at).total_seconds() == 600
    async with house.db.read() as connection:
        jobs = await connection.scalars(text("SELECT args::text FROM procrastinate_jobs ORDER BY id"))
        assert list(jobs) == [f'{{"code_id": {row.id}}}' for row in (one, other)]


async def test_a_code_that_is_rolled_back_leaves_no_job(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def enqueue_and_fail(*args: Any, **more: Any) -> None:
        await enqueue(*args, **more)
        raise ZeroDivisionError

    monkeypatch.setattr(codes, "enqueue", enqueue_and_fail)
    with pytest.raises(ZeroDivisionError):
        await asked(house)
    async with house.db.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM procrastinate_jobs")) == 0
    assert await on_file(house) == []


async def test_an_address_gets_five_codes_at_once_however_it_is_written(house: House, database_url: str) -> None:
    other = House(house.settings, Database(database_url), house.keyring, house.vault)
    for n, address in enumerate(["ana@example.com", "ANA@example.com", "Ana@example.com", "ana@example.com", ANA]):
        await request_code(house if n % 2 else other, address, client=f"192.0.2.{n}", language="en")
    for one in (house, other):
        with pytest.raises(RateLimited) as refused:
            await asked(one, "aNa@example.com", client="192.0.2.9")
        assert refused.value.retry_after_s
    assert len(await on_file(house)) == 5
    await asked(house, "bob@example.com", client="192.0.2.9")
    await other.db.close()


async def test_a_client_gets_sixty_an_hour_for_whatever_addresses(house: House) -> None:
    for n in range(60):
        await asked(house, f"a{n}@example.com")
    with pytest.raises(RateLimited):
        await asked(house, "another@example.com")
    await asked(house, "another@example.com", client="192.0.2.2")


async def test_a_client_that_is_refused_uses_up_nothing_of_an_address(house: House, monkeypatch: Any) -> None:
    monkeypatch.setattr(codes, "PER_CLIENT", Limit("of this test", 1, 3600))
    await asked(house, "a@example.com")
    for _ in range(10):
        with pytest.raises(RateLimited):
            await asked(house)
    await asked(house, client="192.0.2.2")


async def test_no_connection_is_held_while_a_code_is_hashed(
    house: House, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(database_url, pool_size=1)
    narrow = House(house.settings, db, house.keyring, house.vault)
    hashed_in: list[bool] = []

    async def hash_and_look(*args: Any) -> bytes:
        async with asyncio.timeout(5), db.read() as connection:  # it would wait for ever for the only one
            hashed_in.append(await connection.scalar(text("SELECT true")))
        return await hash_code(*args)

    monkeypatch.setattr(codes, "hash_code", hash_and_look)
    monkeypatch.setattr(sessions, "hash_code", hash_and_look)
    assert (await who(narrow, (await signed_in(narrow)).token)).address == ANA
    assert hashed_in == [True, True]
    await db.close()


async def test_codes_are_hashed_two_at_a_time_and_not_on_the_loop(vault: Vault, monkeypatch: Any) -> None:
    at_work, most, threads = 0, 0, set()
    lock, go_on = threading.Lock(), threading.Event()

    def slowly(*_: Any) -> bytes:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
            threads.add(threading.current_thread())
        go_on.wait(20)
        with lock:
            at_work -= 1
        return b""

    monkeypatch.setattr(code_hash, "_hash", slowly)
    waiting = [asyncio.create_task(hash_code(vault, CODE, b"")) for _ in range(50)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited) as refused:
        await hash_code(vault, CODE, b"")
    assert refused.value.retry_after_s == 2  # by then most of the fifty are through
    go_on.set()
    await asyncio.gather(*waiting)
    assert most <= 2
    assert threading.main_thread() not in threads
    monkeypatch.undo()
    assert await hash_code(vault, CODE, new_salt())


async def test_what_can_be_used_no_more_is_forgotten(house: House) -> None:
    await asked(house)
    await time_passes(house, "sign_in_codes", 601)
    await asked(house)
    await forget_what_is_over(house)
    assert len(await on_file(house)) == 1
