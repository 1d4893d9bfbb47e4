"""`tribi travellers`: what support does about somebody's sign-in."""

import psycopg
import pytest

from app.db import Database
from app.services.accounts.keys import Unauthenticated
from app.services.accounts.sessions import session_of
from tests.builders import a_session
from tests.cli.commands import tribi


async def test_support_signs_an_address_out_everywhere_and_it_is_on_the_audit_trail(
    database_url: str, db: Database
) -> None:
    tokens = [await a_session(db) for _ in range(2)]
    others = await a_session(db, "bob@example.com")
    done = tribi(database_url, "travellers", "sign-out", "ANA@example.com")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 sessions ended.")
    async with db.read() as connection:
        for token in tokens:
            with pytest.raises(Unauthenticated):
                await session_of(connection, token)
        assert (await session_of(connection, others)).address == "bob@example.com"
    with psycopg.connect(database_url) as connected:
        trail = "SELECT actor ~ '^cli:.', subject_type, details FROM audit_log WHERE tag = 'travellers.signed_out_everywhere'"
        assert connected.execute(trail).fetchall() == [(True, "travellers", {"sessions": 2})]


def test_what_is_no_address_is_told_in_one_line(database_url: str) -> None:
    done = tribi(database_url, "travellers", "sign-out", "ana")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tribi: This is not an e-mail address")
    assert done.stderr.count("\n") == 1
