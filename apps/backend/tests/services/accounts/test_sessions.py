"""A session begins with a code, once, and ends: by signing out, by its limits, by support; at once, in every process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select, text

from app.db import Database
from app.errors import RateLimited
from app.house import House
from app.models import AuditEntry, SignInCode, TravellerSession
from app.services.accounts import sessions
from app.services.accounts.code_hash import hash_code
from app.services.accounts.forget import forget_what_is_over
from app.services.accounts.keys import Unauthenticated
from app.services.accounts.sessions import (
    IDLE,
    LONGEST,
    CodeRefused,
    sign_in,
    sign_out,
    sign_out_address,
)
from tests.services.accounts.conftest import ANA, CODE, WRONG, asked, signed_in, time_passes, who

DAY_S = 24 * 3600


@pytest.fixture
async def elsewhere(house: House, database_url: str) -> AsyncIterator[House]:
    """Another process."""
    other = House(house.settings, Database(database_url), house.keyring, house.vault)
    yield other
    await other.db.close()


async def tries(house: House, request: str, code: str, *, client: str = "192.0.2.1") -> bool:
    try:
        await sign_in(house, request, code, client=client, former=None)
    except CodeRefused:
        return False
    return True


async def is_over(house: House, token: str) -> bool:
    try:
        await who(house, token)
    except Unauthenticated:
        return True
    return False


async def trail(house: House) -> list[Any]:
    """Who did what to whom, and what is said of it."""
    columns = (AuditEntry.actor, AuditEntry.tag, AuditEntry.subject_type, AuditEntry.subject_id, AuditEntry.details)
    async with house.db.read() as connection:
        rows = await connection.execute(
            select(*columns).where(AuditEntry.tag.like("travellers.%")).order_by(AuditEntry.id)
        )
        return [tuple(row) for row in rows]


async def test_the_right_code_begins_a_session(house: House) -> None:
    session = await signed_in(house, "Ana@example.com")
    found = await who(house, session.token)
    assert (found.address, found.actor) == (ANA, f"traveller:{found.traveller_id}")
    assert len(session.token) == len("tribi_session_") + 43  # 256 random bits
    whose = (found.actor, "travellers.signed_in", "travellers", found.traveller_id)
    assert await trail(house) == [(*whose, {"session": found.session_id})]
    assert "ana" not in repr(found)
    assert session.token not in repr(session)


async def test_each_sign_in_has_a_token_of_its_own_and_is_the_same_traveller(house: House) -> None:
    one, other = await signed_in(house), await signed_in(house, "ANA@example.com")
    assert one.token != other.token
    assert (await who(house, one.token)).traveller_id == (await who(house, other.token)).traveller_id


async def test_who_signs_in_learns_when_the_session_ends_at_the_latest(house: House) -> None:
    session = await signed_in(house)
    async with house.db.read() as connection:
        begun = await connection.scalar(select(TravellerSession.created_at))
    assert begun is not None
    assert session.ends_at == begun + LONGEST


async def test_a_code_works_once(house: House) -> None:
    request = await asked(house)
    assert await tries(house, request, CODE)
    assert not await tries(house, request, CODE)


async def test_of_many_at_once_with_the_right_code_one_gets_in(
    house: House, elsewhere: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = asyncio.Barrier(5)

    async def together(*args: Any) -> bytes:
        """All five tries are counted before any of them is decided."""
        await looked_at.wait()
        return await hash_code(*args)

    request = await asked(house)
    monkeypatch.setattr(sessions, "hash_code", together)
    assert sum(await asyncio.gather(*(tries(one, request, CODE) for _ in range(5) for one in (house, elsewhere)))) == 1
    async with house.db.read() as connection:
        assert len((await connection.scalars(select(TravellerSession.id))).all()) == 1


async def test_after_five_wrong_tries_the_right_one_is_wrong_too(house: House) -> None:
    request = await asked(house)
    assert [await tries(house, request, WRONG) for _ in range(4)] == [False] * 4
    other = await asked(house)
    assert [await tries(house, other, WRONG) for _ in range(5)] == [False] * 5
    assert not await tries(house, other, CODE)
    assert await tries(house, request, CODE)


async def test_a_hundred_tries_at_once_are_five(house: House, elsewhere: House, monkeypatch: Any) -> None:
    looked_at = 0

    async def count(*args: Any) -> bytes:
        nonlocal looked_at
        looked_at += 1
        return b"not this one"

    monkeypatch.setattr(sessions, "hash_code", count)
    request = await asked(house)
    await asyncio.gather(*(tries(one, request, WRONG, client=f"{n}") for n in range(50) for one in (house, elsewhere)))
    assert looked_at == 5


async def test_a_client_may_try_a_hundred_times_an_hour_whatever_the_code(house: House) -> None:
    for _ in range(100):
        assert not await tries(house, "tribi_request_unknown", CODE)
    with pytest.raises(RateLimited):
        await tries(house, await asked(house), CODE)
    assert await tries(house, await asked(house), CODE, client="192.0.2.2")


async def test_only_who_asked_can_use_the_code(house: House) -> None:
    """Two codes for one address are the same six digits here; each goes with its own request alone."""
    mine, theirs = await asked(house), await asked(house)
    assert not await tries(house, theirs[:-1] + ("A" if theirs[-1] != "A" else "B"), CODE)
    assert await tries(house, mine, CODE)
    assert await tries(house, theirs, CODE)


async def test_a_code_lives_for_ten_minutes_of_the_databases_clock(house: House) -> None:
    old, young = await asked(house), await asked(house)
    await time_passes(house, "sign_in_codes", 590)
    assert await tries(house, young, CODE)
    await time_passes(house, "sign_in_codes", 11)
    assert not await tries(house, old, CODE)


async def test_a_code_that_runs_out_while_it_is_hashed_is_too_late(house: House, monkeypatch: Any) -> None:
    async def late(*args: Any) -> bytes:
        await time_passes(house, "sign_in_codes", 601)
        return await hash_code(*args)

    monkeypatch.setattr(sessions, "hash_code", late)
    assert not await tries(house, await asked(house), CODE)


async def test_a_refused_code_is_on_the_audit_trail(house: House) -> None:
    request = await asked(house)
    await tries(house, request, WRONG)
    await tries(house, "tribi_request_unknown", WRONG)
    async with house.db.read() as connection:
        code_id = await connection.scalar(select(SignInCode.id))
    assert await trail(house) == [("system", "travellers.code_refused", "sign_in_codes", code_id, {})]


async def test_whatever_is_wrong_with_a_code_is_told_in_the_same_words(house: House) -> None:
    told = set()
    for request, code in ((await asked(house), WRONG), ("tribi_request_unknown", CODE)):
        with pytest.raises(CodeRefused) as refused:
            await sign_in(house, request, code, client="192.0.2.1", former=None)
        told.add(refused.value.public_message)
    assert told == {
        "This code isn't right, was used before, is older than ten minutes, was tried too often, or was asked for elsewhere. "
        "After 5 tries ask for another one."
    }


async def test_whoever_signs_in_again_leaves_the_former_session_behind(house: House) -> None:
    """Nor can a token be given to somebody beforehand: each session has a new one."""
    former = await signed_in(house, "mallory@example.com")
    session = await signed_in(house, former=former.token)
    assert session.token != former.token
    assert await is_over(house, former.token)
    assert (await who(house, session.token)).address == ANA


async def test_signing_out_ends_this_session_in_every_process_and_no_other(house: House, elsewhere: House) -> None:
    one, other = await signed_in(house), await signed_in(house)
    assert not await is_over(elsewhere, one.token)
    ana = await who(house, one.token)
    async with house.db.begin() as connection:
        await sign_out(connection, ana, everywhere=False)
    assert await is_over(elsewhere, one.token)
    assert not await is_over(elsewhere, other.token)
    whose = (ana.actor, "travellers.signed_out", "travellers", ana.traveller_id)
    assert (await trail(house))[-1] == (*whose, {"session": ana.session_id})


async def test_signing_out_everywhere_ends_all_of_this_traveller(house: House, elsewhere: House) -> None:
    one, other, bobs = await signed_in(house), await signed_in(elsewhere), await signed_in(house, "bob@example.com")
    ana = await who(house, one.token)
    async with house.db.begin() as connection:
        await sign_out(connection, ana, everywhere=True)
    assert [await is_over(elsewhere, session.token) for session in (one, other, bobs)] == [True, True, False]
    whose = (ana.actor, "travellers.signed_out_everywhere", "travellers", ana.traveller_id)
    assert (await trail(house))[-1] == (*whose, {"sessions": 2})


async def test_support_ends_all_sessions_of_an_address(house: House, elsewhere: House) -> None:
    begun = [await signed_in(house), await signed_in(house)]
    ana = await who(house, begun[0].token)
    async with house.db.begin() as connection:
        assert await sign_out_address(connection, "ANA@example.com", actor="cli:test") == 2
        assert await sign_out_address(connection, "nobody@example.com", actor="cli:test") == 0
    assert [await is_over(elsewhere, session.token) for session in begun] == [True, True]
    whose = ("cli:test", "travellers.signed_out_everywhere", "travellers", ana.traveller_id)
    assert (await trail(house))[2:] == [(*whose, {"sessions": 2})]  # and nothing of somebody who never signed in


async def test_a_session_that_is_not_used_for_seven_days_is_over(house: House) -> None:
    assert IDLE.total_seconds() == 7 * DAY_S
    session = await signed_in(house)
    for _ in range(3):
        await time_passes(house, "traveller_sessions", 6.9 * DAY_S)
        assert not await is_over(house, session.token)  # which is a use
    await time_passes(house, "traveller_sessions", 7 * DAY_S)
    assert await is_over(house, session.token)


async def test_after_thirty_days_it_is_over_however_it_was_used(house: House) -> None:
    assert LONGEST.total_seconds() == 30 * DAY_S
    session = await signed_in(house)
    for _ in range(5):
        await time_passes(house, "traveller_sessions", 5.9 * DAY_S)
        assert not await is_over(house, session.token)
    await time_passes(house, "traveller_sessions", 0.5 * DAY_S)
    assert await is_over(house, session.token)


async def test_a_busy_session_rewrites_its_row_once_a_minute(house: House) -> None:
    async def used_at() -> Any:
        async with house.db.read() as connection:
            return await connection.scalar(select(TravellerSession.last_used_at))

    session = await signed_in(house)
    begun = await used_at()
    await who(house, session.token)
    assert await used_at() == begun
    await time_passes(house, "traveller_sessions", 61)
    await who(house, session.token)
    assert await used_at() > begun


@pytest.mark.parametrize("token", ["", "tribi_session_", "tribi_session_" + "x" * 43, "tribi_session_€", "x" * 5000])
async def test_what_is_no_token_is_nobodys(house: House, token: str) -> None:
    assert await is_over(house, token)


async def test_what_is_over_is_forgotten(house: House) -> None:
    await signed_in(house)
    await time_passes(house, "traveller_sessions", 7.1 * DAY_S)
    kept = await signed_in(house)
    await forget_what_is_over(house)
    assert not await is_over(house, kept.token)
    async with house.db.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM traveller_sessions")) == 1
