"""
G14: webhooks out. A receiver is dead for 75 hours, another hangs, a third loses its answers; and nothing goes where it may not.

The clock is the database's, and is moved: `now()` of a schema of the run's own comes first in the search path. Everything that the
product compares goes by it; only the signatures' timestamps are the process's, as receivers check them by their own clocks.
"""

import asyncio
import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from sqlalchemy import text
from standardwebhooks import Webhook

from app import schema
from app.db import Database
from app.house import House
from app.postgres import hold
from app.services.webhooks.deliver import AT_ONCE
from app.services.webhooks.dispatch import Dispatcher
from app.services.webhooks.endpoints import add_endpoint, remove_endpoint
from app.services.webhooks.events import EsimProvisioned
from app.services.webhooks.line import Line, Message
from app.services.webhooks.line import Outcome as Ending
from app.services.webhooks.schedule import JITTER, MOST_ATTEMPTS, PAUSES_S
from app.services.webhooks.tell import tell
from app.settings import Settings
from app.vault import Keyring
from tests.chaos.outcome import Outcome, Tick, no_tick
from tests.chaos.purchases import unforeseen
from tests.services.webhooks.network import Names, watched_wires
from tests.services.webhooks.targets import TARGETS

DEAD_FOR_S = 75 * 3600
_STEP_S = 20
"""How far the clock goes beyond the next attempt, so that those around it are made together; while nobody is there 1 % further."""

_LOSES = 0.25
"""The part of answers that a receiver loses: it has taken the message, and the connection breaks."""

_CLOCK = """
    CREATE SCHEMA clock;
    CREATE TABLE clock.moved (by interval NOT NULL);
    INSERT INTO clock.moved VALUES ('0');
    CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE
        AS 'SELECT pg_catalog.now() + (SELECT by FROM clock.moved)';
    CREATE TABLE clock.attempts (delivery_id bigint, attempt int, at timestamptz, next_at timestamptz);
    CREATE FUNCTION clock.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO clock.attempts VALUES (NEW.id, NEW.attempts, clock.now(), NEW.next_attempt_at); RETURN NEW; END $$;
    CREATE TRIGGER noted AFTER UPDATE ON webhook_deliveries FOR EACH ROW
        WHEN (NEW.attempts > OLD.attempts) EXECUTE FUNCTION clock.note();
"""
_MOVE = text("UPDATE clock.moved SET by = by + make_interval(secs => :by_s)")
_MOVED_S = text("SELECT extract(epoch FROM by) FROM clock.moved")
_NEXT_IN_S = text(
    "SELECT extract(epoch FROM min(next_attempt_at) - now()) FROM webhook_deliveries WHERE status = 'pending'"
)
_STANDING = text("SELECT status, attempts, count(*) AS times FROM webhook_deliveries GROUP BY status, attempts")
_PAUSES = text(
    "SELECT attempt, extract(epoch FROM min(next_at - at)) AS least_s, extract(epoch FROM max(next_at - at)) AS most_s"
    " FROM clock.attempts WHERE next_at IS NOT NULL GROUP BY attempt ORDER BY attempt"
)
_LAST_SPREAD = text(
    "SELECT extract(epoch FROM at - min(at) OVER ()) AS after_s FROM clock.attempts WHERE attempt = :last ORDER BY 1"
)


@dataclass(frozen=True)
class Limits:
    """`slowed`: by what part a receiver that hangs may slow the others."""

    slowed: float = 0.05


@dataclass
class Receiver:
    """What a seller's server does with a message, and whether it was ours."""

    secret: str = ""
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    heard: Counter[str] = field(default_factory=Counter)
    """By `webhook-id`."""
    forged: int = 0
    most_at_once: int = 0
    _at_once: int = 0

    async def take(self, request: web.Request) -> web.StreamResponse:
        body, headers = await request.read(), dict(request.headers)
        try:
            Webhook(self.secret).verify(body, headers)
        except Exception:  # noqa: BLE001 - whatever it is that doesn't verify
            self.forged += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        message_id = request.headers["webhook-id"]
        self.heard[message_id] += 1
        try:
            return web.Response(status=204) if self.answer is None else await self.answer(request)
        finally:
            self._at_once -= 1

    @asynccontextmanager
    async def listening(self, on: socket.socket) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_post("/", self.take)
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, on, backlog=512).start()
        yield
        await runner.cleanup()


def _a_place() -> tuple[socket.socket, str]:
    """A port at which nobody listens yet."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", 0))
    return place, f"http://127.0.0.1:{place.getsockname()[1]}/"


async def run(folder: Path, *, n: int, seed: int, tick: Tick = no_tick, limits: Limits = Limits()) -> Outcome:
    """`n`: events for the receiver that is dead."""
    with hold(folder / "database") as server:
        schema.migrate(server.url)
        return await told(server.url, n=n, seed=seed, tick=tick, limits=limits)


async def told(
    database_url: str,
    *,
    n: int,
    seed: int,
    tick: Tick = no_tick,
    limits: Limits = Limits(),
    rounds: int = 15,
    takes_s: float = 0.1,
) -> Outcome:
    """
    In a migrated database that nobody else uses.

    Args:
        rounds: how often it is measured what a receiver that hangs costs one that is well,
        takes_s: and that takes so long to answer.
    """
    outcome = Outcome(done=n)
    plain = Database(database_url)
    db = Database(make_conninfo(database_url, options="-c search_path=clock,pg_catalog,public"))
    try:
        async with plain.begin() as connection:
            await connection.exec_driver_sql(_CLOCK)
        settings = Settings(database_url=SecretStr(database_url), webhooks_allow_private=True)
        house = House(settings, db, Keyring((random.Random(seed).randbytes(32),)))  # noqa: S311 - of a test
        await house.settle()
        with unforeseen() as complaints:
            await _dead_for_days(house, outcome, n, tick)
            await _loses_answers(house, outcome, max(n // 5, 20), random.Random(seed))  # noqa: S311 - reproducible
            await _one_hangs(house, outcome, rounds, takes_s, max(min(n // 10, 100), 40), limits)
        outcome.failures += complaints
    finally:
        await db.close()
        await plain.close()
    await _nowhere_else(outcome)
    return outcome


async def _dead_for_days(house: House, outcome: Outcome, n: int, tick: Tick) -> None:
    receiver = Receiver()
    place, url = _a_place()
    endpoint_id, receiver.secret = await _an_endpoint(house, url)
    await _tell(house, n)
    async with _a_line() as line:
        dispatcher = Dispatcher(house, line)
        told = 0
        while True:
            await _work_off(dispatcher)
            async with house.db.begin() as connection:
                moved_s = float(await connection.scalar(_MOVED_S) or 0)
                next_in_s = await connection.scalar(_NEXT_IN_S)
                if next_in_s is None or moved_s >= DEAD_FOR_S:
                    break
                step_s = min(max(float(next_in_s), 0) + _STEP_S + moved_s / 100, DEAD_FOR_S - moved_s)
                await connection.execute(_MOVE, {"by_s": step_s})
            done = int(n * 0.9 * moved_s / DEAD_FOR_S)
            tick(done - told)
            told = done
        outcome.counts["heard while it was dead"] = sum(receiver.heard.values())
        async with receiver.listening(place):
            while True:
                await _work_off(dispatcher)
                async with house.db.begin() as connection:
                    next_in_s = await connection.scalar(_NEXT_IN_S)
                    if next_in_s is None:
                        break
                    await connection.execute(_MOVE, {"by_s": max(float(next_in_s), 0) + _STEP_S})
        tick(n - told)
    async with house.db.read() as connection:
        standing = {(row.status, row.attempts): row.times for row in await connection.execute(_STANDING)}
        pauses = (await connection.execute(_PAUSES)).all()
        spread = [float(row.after_s) for row in await connection.execute(_LAST_SPREAD, {"last": MOST_ATTEMPTS})]
    outcome.counts["events for a receiver that was dead for 75 h"] = n
    outcome.counts["arrived once it was back"] = len(receiver.heard)
    outcome.counts["attempts of those"] = sum(attempts * times for (_, attempts), times in standing.items())
    outcome.counts["heard twice after the outage"] = sum(receiver.heard.values()) - len(receiver.heard)
    outcome.require("arrived once it was back", n)
    if standing != {("delivered", MOST_ATTEMPTS): n}:
        outcome.failures.append(f"not all were delivered by the tenth attempt: {standing}")
    if receiver.forged or sum(receiver.heard.values()) != n:
        outcome.failures.append(f"{receiver.forged} didn't verify, {sum(receiver.heard.values())} were heard")
    for row in pauses:
        pause_s = PAUSES_S[row.attempt - 1]
        if not pause_s - 0.01 <= row.least_s <= row.most_s <= pause_s * (1 + JITTER) + 0.01:
            outcome.failures.append(f"after attempt {row.attempt}: {row.least_s} to {row.most_s} s, not {pause_s}")
    outcome.figures["last_attempts_spread_h"] = round(max(spread) / 3600, 2)
    busiest = max(sum(1 for other in spread if at <= other < at + 300) for at in spread)
    outcome.figures["most_of_the_last_attempts_in_5_min_percent"] = round(100 * busiest / n, 1)
    outcome.figures["most_at_once"] = receiver.most_at_once
    if receiver.most_at_once > AT_ONCE:
        outcome.failures.append(f"{receiver.most_at_once} at once: a herd")
    await _remove(house, endpoint_id)


async def _loses_answers(house: House, outcome: Outcome, n: int, draw: random.Random) -> None:
    """Two processes; and what a receiver has taken, and we never heard that it has, is sent again: nobody can do better."""
    receiver = Receiver()
    lost: set[str] = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        message_id = request.headers["webhook-id"]
        if message_id not in lost and draw.random() < _LOSES and request.transport is not None:
            lost.add(message_id)
            request.transport.abort()
        return web.Response(status=204)

    receiver.answer = answer
    place, url = _a_place()
    async with receiver.listening(place), _a_line() as line:
        endpoint_id, receiver.secret = await _an_endpoint(house, url)
        await _tell(house, n)
        both = [Dispatcher(house, line) for _ in range(2)]
        while True:
            await asyncio.gather(*(_work_off(dispatcher) for dispatcher in both))
            async with house.db.begin() as connection:
                next_in_s = await connection.scalar(_NEXT_IN_S)
                if next_in_s is None:
                    break
                await connection.execute(_MOVE, {"by_s": max(float(next_in_s), 0) + 1})
    duplicates = sum(receiver.heard.values()) - len(receiver.heard)
    outcome.counts["events of which answers were lost"] = n
    outcome.counts["answers lost"] = len(lost)
    outcome.counts["heard twice since the first answer was lost"] = duplicates
    outcome.require("answers lost", 1)
    if (len(receiver.heard), duplicates, receiver.forged) != (n, len(lost), 0):
        outcome.failures.append(
            f"{len(receiver.heard)} of {n} arrived, {duplicates} twice, {len(lost)} answers were lost, {receiver.forged} forged"
        )
    await _remove(house, endpoint_id)


async def _one_hangs(
    house: House, outcome: Outcome, rounds: int, takes_s: float, messages: int, limits: Limits
) -> None:
    """
    The same messages to a receiver that is well, beside one that hangs and beside none, in turn. The quickest of each
    are compared: whatever else the machine does makes the others slower.
    """
    well, hangs = Receiver(), Receiver()
    places = [_a_place() for _ in range(2)]
    took: dict[bool, list[float]] = {False: [], True: []}
    async with well.listening(places[0][0]), hangs.listening(places[1][0]):
        for turn in range(2 * rounds):
            is_beside_one = bool(turn % 2)
            released = asyncio.Event()

            async def hang(_: web.Request, released: asyncio.Event = released) -> web.StreamResponse:
                await released.wait()
                return web.Response(status=503)

            async def take(_: web.Request) -> web.StreamResponse:
                await asyncio.sleep(takes_s)
                return web.Response(status=204)

            well.answer, hangs.answer = take, hang
            ids = []
            endpoint_id, well.secret = await _an_endpoint(house, places[0][1])
            ids.append(endpoint_id)
            if is_beside_one:
                endpoint_id, hangs.secret = await _an_endpoint(house, places[1][1])
                ids.append(endpoint_id)
            await _tell(house, messages)
            async with _a_line() as line:
                dispatcher = Dispatcher(house, line)
                heard, begun = len(well.heard), time.perf_counter()
                while len(well.heard) < heard + messages:
                    await dispatcher.begin_due()
                    await dispatcher.until_room(0.5)
                took[is_beside_one].append(time.perf_counter() - begun)
                released.set()
                await dispatcher.finish()
            for endpoint_id in ids:
                await _remove(house, endpoint_id)
    slowed = min(took[True]) / min(took[False]) - 1
    outcome.counts["messages beside a receiver that hangs"] = rounds * messages
    outcome.figures["slowed_by_one_that_hangs_percent"] = round(100 * slowed, 1)
    outcome.figures["messages_per_s_beside_one_that_hangs"] = round(messages / min(took[True]), 1)
    if slowed > limits.slowed:
        outcome.failures.append(f"a receiver that hangs slows another by {100 * slowed:.1f} %")


async def _nowhere_else(outcome: Outcome) -> None:
    opened, context = 0, ssl.create_default_context()
    async with watched_wires() as wires:
        for target in TARGETS:
            line = Line(allow_private=False, timeout_s=5, resolver=Names(target.answers), ssl_context=context)
            for _ in range(3):
                answer = await line.post(Message("msg_1", target.url, "{}", ("whsec_c2VjcmV0",)))
                if answer.outcome not in (Ending.FORBIDDEN, Ending.UNREACHABLE):
                    outcome.failures.append(f"{target}: {answer.outcome}")
            await line.close()
            opened += len(wires.opened)
            if wires.opened:
                outcome.failures.append(f"{target} led to {wires.opened}")
                wires.opened.clear()
        knocks = wires.knocks
    outcome.counts["addresses where nothing may go"] = len({target.url for target in TARGETS})
    outcome.require("addresses where nothing may go", 80)
    outcome.figures["connections_to_those"] = opened + knocks
    if opened or knocks:
        outcome.failures.append(f"{opened} connections, {knocks} knocks")


# --- what all of them need


@asynccontextmanager
async def _a_line() -> AsyncIterator[Line]:
    line = Line(allow_private=True, timeout_s=20)
    try:
        yield line
    finally:
        await line.close()


async def _an_endpoint(house: House, url: str) -> tuple[int, str]:
    async with house.db.begin() as connection:
        endpoint, secret = await add_endpoint(connection, house.keyring, url, [], allow_private=True, actor="cli:g14")
    return endpoint.id, secret


async def _remove(house: House, endpoint_id: int) -> None:
    async with house.db.begin() as connection:
        await remove_endpoint(connection, endpoint_id, actor="cli:g14")


async def _tell(house: House, n: int) -> None:
    async with house.db.begin() as connection:
        for number in range(1, n + 1):
            await tell(connection, EsimProvisioned(order_id=number, esim_id=number, is_live=False))


async def _work_off(dispatcher: Dispatcher) -> None:
    """Until nothing is due."""
    while await dispatcher.begin_due():
        await dispatcher.finish()
