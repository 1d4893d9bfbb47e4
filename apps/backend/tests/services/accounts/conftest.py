"""Travellers who sign in, on the test's database. Codes are hashed quickly; `test_code_hash.py` looks at how they really are."""

import pytest
from sqlalchemy import text, update

from app.house import House
from app.models import Order
from app.services.accounts import code_hash, codes
from app.services.accounts.codes import request_code
from app.services.accounts.sessions import NewSession, SignedIn, session_of, sign_in
from tests.builders import an_order
from tests.mailbox import mailbox, mailing_house, smtp  # noqa: F401 - fixtures

CODE, WRONG = "204816", "204817"
ANA = "ana@example.com"


@pytest.fixture(autouse=True)
def _quick_codes_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_hash, "COST", 2**4)
    monkeypatch.setattr(codes, "new_code", lambda: CODE)


async def asked(house: House, address: str = ANA, *, client: str = "192.0.2.1") -> str:
    """The request token of a new code."""
    return await request_code(house, address, client=client, language="en")


async def signed_in(house: House, address: str = ANA, *, former: str | None = None) -> NewSession:
    return await sign_in(house, await asked(house, address), CODE, client="192.0.2.1", former=former)


async def who(house: House, token: str) -> SignedIn:
    async with house.db.read() as connection:
        return await session_of(connection, token)


async def ordered(house: House, address: str = ANA, *, locale: str | None = None) -> int:
    """An order with this address as it is typed."""
    order_id = await an_order(house.db)
    values = {"customer_email": address, "customer_locale": locale}
    async with house.db.begin() as connection:
        await connection.execute(update(Order).where(Order.id == order_id).values(**values))
    return order_id


async def time_passes(house: House, table: str, seconds: float) -> None:
    """For all instants of a table."""
    columns = {
        "sign_in_codes": ("expires_at", "leased_until"),
        "traveller_sessions": ("created_at", "last_used_at", "ends_at"),
    }[table]
    changes = ", ".join(f"{one} = {one} - make_interval(secs => :seconds)" for one in columns)
    async with house.db.begin() as connection:
        await connection.execute(text(f"UPDATE {table} SET {changes}"), {"seconds": seconds})  # noqa: S608 - names of ours
