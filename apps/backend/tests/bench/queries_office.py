"""Of the register: who asks, what watches, and what staff look at."""

import re

from app.db import driver_of
from app.errors import NotFound
from app.rate_limits import take
from app.services.accounts import code_hash, codes
from app.services.accounts.callers import authenticate
from app.services.accounts.codes import PER_CLIENT, request_code
from app.services.accounts.forget import forget_what_is_over
from app.services.accounts.send_code import send_code
from app.services.accounts.sessions import session_of, sign_in, sign_out, sign_out_address
from app.services.doctor.examine import CHECKS
from app.services.esims.circuit import Circuit
from app.services.esims.pause import outlook, pause, resume
from app.services.esims.spend import Caps, spent
from app.services.esims.stuck import count_stuck
from app.services.esims.undelivered import count_undelivered
from app.services.news.on_file import count_parked, event_in_full, hearsay_of, list_events
from app.services.secrets.rotate import rotate
from app.services.secrets.sealed import SEALED
from app.settings import BACKEND_DIR
from tests.bench.queries import Shop, query
from tests.builders import a_session

_DOCS = BACKEND_DIR.parents[1] / "docs"
_SQL = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)


@query("who asks: a key, a session")
async def callers(shop: Shop) -> None:
    house = shop.house
    async with house.db.read() as connection:
        for secret in (shop.made["key"], await a_session(house.db, shop.settled().owner, idle_days=1)):
            await authenticate(connection, house.vault, secret, key_rate_limit=1000)


@query("signing in and out")
async def signing_in(shop: Shop) -> None:
    house, life = shop.house, shop.settled()
    cost, new_code = code_hash.COST, codes.new_code
    code_hash.COST, codes.new_code = 2**4, lambda: "204816"
    try:
        request = ""
        for address in ("nobody@example.com", life.owner):
            request = await request_code(house, address, client="192.0.2.1", language="en")
            async with house.db.read() as connection:
                newest = "SELECT max(id) FROM sign_in_codes"
                await send_code(house, (await connection.exec_driver_sql(newest)).scalar_one())
        session = await sign_in(house, request, "204816", client="192.0.2.1", former=await a_session(house.db))
    finally:
        code_hash.COST, codes.new_code = cost, new_code
    async with house.db.begin() as connection:
        who = await session_of(connection, session.token)
        await sign_out(connection, who, everywhere=False)
        await sign_out(connection, who, everywhere=True)
        await sign_out_address(connection, life.owner, actor="bench")


@query(
    "what nobody can sign in with any more, nightly",
    reads_all="each night leaves a week's sessions and an hour's limits",
)
async def forgetting(shop: Shop) -> None:
    await forget_what_is_over(shop.house)


@query("a limit")
async def limits(shop: Shop) -> None:
    async with shop.house.db.begin() as connection:
        await take(connection, shop.house.vault, (PER_CLIENT, "192.0.2.2"))


@query("/metrics and /readyz: what is stuck", most_rows=lambda shop: 3 * shop.crowd.stock + 1000)
async def stuck(shop: Shop) -> None:
    """All that is open is counted: the crowd's stock, too."""
    async with shop.house.db.read() as connection:
        await count_stuck(connection)


@query("/metrics and /readyz: what is paused, and what was spent", most_rows=lambda shop: 2 * shop.a_day)
async def outlooks(shop: Shop) -> None:
    """A day's attempts are counted, where there are caps."""
    circuit = Circuit(shop.house.db, shop.provider, 3)
    async with shop.house.db.read() as connection:
        await outlook(connection, shop.provider.name, circuit, Caps(10_000_000, 50_000_000))
        await spent(connection, None)
    async with shop.house.db.begin() as connection:
        await pause(connection, shop.provider.name, reason="the bench", actor="bench")
        await resume(connection, shop.provider.name, actor="bench")


@query("/metrics: news that nobody takes up", most_rows=1000)
async def parked(shop: Shop) -> None:
    """What is parked is counted."""
    async with shop.house.db.read() as connection:
        await count_parked(connection)


@query("tribi providers news, by each outcome and of one eSIM")
async def news(shop: Shop) -> None:
    async with shop.house.db.read() as connection:
        for outcome in (None, "parked", "odd"):
            await list_events(connection, outcome=outcome, limit=21)
        found = await list_events(connection, esim_id=shop.settled().id)
        await event_in_full(connection, shop.house.vault, found[0].id)


@query("tribi doctor: what came of a provider's webhooks", most_rows=2500)
async def hearsay(shop: Shop) -> None:
    async with shop.house.db.read() as connection:
        for provider in ("CONNECTED_YOU", "ANOTHER"):
            await hearsay_of(connection, provider)


@query("tribi doctor: mails that were refused", most_rows=lambda shop: 4 * shop.a_day)
async def refused(shop: Shop) -> None:
    """What was refused in the last month: a thousandth of its mails."""
    async with shop.house.db.read() as connection:
        await count_undelivered(connection)


@query(
    "tribi doctor: all that looks into the database",
    most_rows=lambda shop: 4 * shop.a_day + 3 * shop.crowd.stock + 2500,
)
async def doctor(shop: Shop) -> None:
    for check in CHECKS:
        if check.of_house is not None:
            findings = await check.of_house(shop.house)
            assert not any("Error" in finding.detail for finding in findings)


@query("tribi secrets rotate", most_rows=10**12, reads_all="every sealed value is looked at: that is what it is for")
async def rotation(shop: Shop) -> None:
    await rotate(shop.house, actor="bench")


@query("sealing a batch anew")
async def sealing(shop: Shop) -> None:
    keyring = shop.house.keyring
    for sealed in SEALED:
        async with shop.house.db.read() as connection:
            batch = await sealed.batch(connection, b"another's", after=0, most=50)
            if batch:
                await sealed.swap(connection, [sealed.sealed_anew(keyring, row) for row in batch])


@query("what docs/operations and docs/retention.md tell staff to type", most_rows=6000)
async def typed(shop: Shop) -> None:
    """Batches are of 5,000 numbers."""
    for page in sorted([*(_DOCS / "operations").glob("*.md"), _DOCS / "retention.md"]):
        for block in _SQL.findall(page.read_text()):
            for statement in filter(None, map(str.strip, block.split(";"))):
                async with shop.house.db.begin() as connection:
                    await connection.exec_driver_sql(statement.replace("ESIM_ID", str(shop.settled().id)))
                    await driver_of(connection).rollback()  # what is left to commit is nothing


@query("tribi travellers sign-out of nobody")
async def nobody(shop: Shop) -> None:
    async with shop.house.db.begin() as connection:
        try:
            await sign_out_address(connection, "nobody@example.org", actor="bench")
        except NotFound:
            return
