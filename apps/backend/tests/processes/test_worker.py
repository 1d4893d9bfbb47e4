"""`tribi worker`: does what servers have queued, also what one of them or another worker has left undone when it was killed."""

import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
from pydantic import SecretStr
from sqlalchemy import TextClause, text

from app.house import House
from app.queue import STALLED_AFTER_S
from app.services.accounts.codes import request_code
from app.services.esim_providers import get_esim_provider
from app.services.esims.activate import Activations
from app.services.esims.resend import resend_instructions
from app.settings import Settings as AppSettings
from app.vault import Keyring
from tests.builders import provisioned
from tests.conftest import KEY
from tests.jobs.queue_rows import an_old_job, deferred, job_states
from tests.jobs.test_tasks import TASKS
from tests.processes.installations import API_KEY, EMAIL, PARTNER_ID, Installation
from tests.processes.programs import Settings, until
from tests.services.news.conftest import Ears, lifecycle

_JOB = text(
    "SELECT status::text FROM procrastinate_jobs"
    " WHERE task_name = 'esims.provisioned' AND args @> jsonb_build_object('esim_id', CAST(:esim_id AS bigint))"
)
_CLAIMED = text("SELECT count(*) FROM outgoing_mails WHERE sent_at IS NULL AND leased_until > now()")
_RESEND_CLAIMED = text(
    "SELECT count(*) FROM outgoing_mails WHERE kind = 'resend' AND sent_at IS NULL AND leased_until > now()"
)
_NONE_QUEUED = text("UPDATE procrastinate_jobs SET status = 'succeeded' WHERE status = 'todo'")
_ENDS_SOON = text(
    "UPDATE esim_profiles SET plan_state = 'active', plan_active_at = now() - interval '29 days 1 hour',"
    " plan_expires_at = now() + interval '23 hours' WHERE id = :esim_id"
)
_NOTED = text("SELECT count(*) FROM crossed_thresholds WHERE profile_id = :esim_id")
_NOTE_WAITS = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND query LIKE '%crossed_thresholds%' AND wait_event_type = 'Lock'"
)

_CODE_CLAIMED = text("SELECT count(*) FROM sign_in_codes WHERE sent_at IS NULL AND leased_until > now()")
_WORK_WAITS_FOR_A_LOCK = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'tribi' AND wait_event_type = 'Lock'"
)
_SILENT = text("UPDATE procrastinate_workers SET last_heartbeat = now() - make_interval(secs => :for_s)")


async def activated(site: Installation, order_id: int, *, wait_s: float = 10) -> None:
    """By a server that is gone afterwards, and never worked on jobs."""
    settings = AppSettings(
        esim_provider="CONNECTED_YOU",
        connected_you_dry_run=False,
        connected_you_base_url=site.supplier.url,
        connected_you_api_key=SecretStr(API_KEY),
        connected_you_partner_id=PARTNER_ID,
    )
    house = House(settings, site.db, Keyring.parse(KEY))
    await house.settle()
    provider = get_esim_provider(settings)
    activations = Activations(house, provider, timeout_s=10, wait_s=wait_s, max_concurrency=1)
    await activations.activate(order_id, actor="test")
    await activations.drain(0)
    await provider.close()


async def job_of(site: Installation, order_id: int) -> str:
    """The status of the job that sends its instructions."""
    esim_id = await site.esim_id(order_id)
    async with site.db.read() as connection:
        return str(await connection.scalar(_JOB, {"esim_id": esim_id}))


async def test_it_does_what_was_queued_and_ends_when_asked(site: Installation) -> None:
    order_id = await site.order()
    await activated(site, order_id)
    assert await job_of(site, order_id) == "todo"
    worker = site.start("worker")
    await site.has_mail(order_id)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert await job_of(site, order_id) == "succeeded"


async def test_it_sweeps_too(site: Installation) -> None:
    order_id = await site.order()
    await site.script(order_id, "hang_after")
    await activated(site, order_id, wait_s=0.5)
    assert await site.outcomes(order_id) == [None]
    await site.expire(order_id)
    worker = site.start("worker")
    await site.becomes("unknown", order_id)
    worker.clear_away()


@dataclass(frozen=True)
class Begun:
    """A job in whose middle a worker is to be killed, and what must be so once it was done by another."""

    job_id: int
    middle: TextClause
    """True once the worker is there."""
    is_done: Callable[[], Awaitable[object]]


async def nothing_is_queued(site: Installation) -> None:
    """What an activation leaves to be done is done."""
    async with site.db.begin() as connection:
        await connection.execute(_NONE_QUEUED)


@asynccontextmanager
async def a_silent_mail_server(site: Installation) -> AsyncIterator[Settings]:
    """It takes the call and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as mail_server:
        yield {"SMTP_URL": f"smtp://127.0.0.1:{mail_server.getsockname()[1]}", "MAIL_FROM": "shop@example.com"}
    async with site.db.begin() as connection:
        await connection.execute(text("UPDATE outgoing_mails SET leased_until = now() - interval '1 second'"))


@asynccontextmanager
async def instructions(site: Installation) -> AsyncIterator[tuple[Settings, Begun]]:
    order_id = await site.order()
    await activated(site, order_id)

    async def is_sent() -> bool:
        [issued] = site.issued(order_id)
        return any(issued.activation_code.rpartition("$")[2] in mail.read_text() for mail in site.mails())

    job_id = max(await job_states(site.db))
    async with a_silent_mail_server(site) as mail:
        yield mail, Begun(job_id, _CLAIMED, is_sent)


@asynccontextmanager
async def a_resend(site: Installation) -> AsyncIterator[tuple[Settings, Begun]]:
    order_id = await site.order()
    await activated(site, order_id)
    await nothing_is_queued(site)
    esim_id = await site.esim_id(order_id)
    await resend_instructions(House(AppSettings(), site.db, Keyring.parse(KEY)), esim_id, actor="test")

    async def is_sent() -> bool:
        return any(mail.name == f"esim-{esim_id}-resend-1.eml" for mail in site.mails())

    job_id = max(await job_states(site.db))
    async with a_silent_mail_server(site) as mail:
        yield mail, Begun(job_id, _RESEND_CLAIMED, is_sent)


@asynccontextmanager
async def a_plan_that_ends(site: Installation) -> AsyncIterator[tuple[Settings, Begun]]:
    """Nobody can note that it does."""
    order_id = await site.order()
    await activated(site, order_id)
    await nothing_is_queued(site)
    ours = {"esim_id": await site.esim_id(order_id)}
    async with site.db.begin() as connection:
        await connection.execute(_ENDS_SOON, ours)

    async def is_noted() -> bool:
        async with site.db.read() as connection:
            return bool(await connection.scalar(_NOTED, ours))

    async with site.db.begin() as connection:
        await connection.execute(text("LOCK TABLE crossed_thresholds"))
        yield {}, Begun(await deferred(site.db, "esims.expiring", {"timestamp": 0}), _NOTE_WAITS, is_noted)


@asynccontextmanager
async def a_code(site: Installation) -> AsyncIterator[tuple[Settings, Begun]]:
    """As with instructions."""
    await site.order()
    house = House(AppSettings(), site.db, Keyring.parse(KEY))
    await house.settle()
    await request_code(house, EMAIL, client="192.0.2.1", language="en")

    async def is_sent() -> bool:
        return any("Message-ID: <sign-in-code-1." in mail.read_text() for mail in site.mails())

    job_id = max(await job_states(site.db))
    with socket.create_server(("127.0.0.1", 0)) as mail_server:
        mail = {"SMTP_URL": f"smtp://127.0.0.1:{mail_server.getsockname()[1]}", "MAIL_FROM": "shop@example.com"}
        yield mail, Begun(job_id, _CODE_CLAIMED, is_sent)
    async with site.db.begin() as connection:
        await connection.execute(text("UPDATE sign_in_codes SET leased_until = now() - interval '1 second'"))


@asynccontextmanager
async def old_jobs(site: Installation) -> AsyncIterator[tuple[Settings, Begun]]:
    """One of them is locked."""
    old = await an_old_job(site.db, "succeeded")

    async def is_gone() -> bool:
        return old not in await job_states(site.db)

    async with site.db.begin() as connection:
        await connection.execute(text("SELECT FROM procrastinate_jobs WHERE id = :id FOR UPDATE"), {"id": old})
        yield {}, Begun(await deferred(site.db, "queue.tidy", {"timestamp": 0}), _WORK_WAITS_FOR_A_LOCK, is_gone)


@asynccontextmanager
async def news(site: Installation) -> AsyncIterator[tuple[Settings, Begun]]:
    """Of an eSIM whose row is locked."""
    house = House(AppSettings(esim_provider="CONNECTED_YOU"), site.db, Keyring.parse(KEY))
    await house.settle()
    ears = Ears(house)
    order_id = await site.order()
    [iccid] = await provisioned(site.db, house.vault, [order_id])
    await ears.receive(lifecycle(iccid, "ENABLED", "10:00"))
    esim_id = await site.esim_id(order_id)

    async def is_told() -> bool:
        return await ears.told(esim_id) == [("profile_state_changed", "enabled")]

    async with site.db.begin() as connection:
        await connection.execute(text("SELECT FROM esim_profiles WHERE id = :id FOR UPDATE"), {"id": esim_id})
        yield {}, Begun(max(await job_states(site.db)), _WORK_WAITS_FOR_A_LOCK, is_told)


@asynccontextmanager
async def parked_news(site: Installation) -> AsyncIterator[tuple[Settings, Begun]]:
    """The same; its eSIM turned up, and nobody looked."""
    async with news(site) as (settings, begun):
        async with site.db.begin() as connection:
            await connection.execute(text("DELETE FROM procrastinate_jobs"))
            await connection.execute(text("UPDATE provider_events SET outcome = 'parked', settled_at = now()"))
        job_id = await deferred(site.db, "providers.events_catch_up", {"timestamp": 0})
        yield settings, Begun(job_id, begun.middle, begun.is_done)


KILLED: dict[str, Callable[[Installation], AbstractAsyncContextManager[tuple[Settings, Begun]]]] = {
    "esims.provisioned": instructions,
    "providers.event_received": news,
    "providers.events_catch_up": parked_news,
    "esims.expiring": a_plan_that_ends,
    "mails.written": a_resend,
    "queue.tidy": old_jobs,
    "travellers.sign_in_code": a_code,
}
"""What keeps each task in its middle for as long as the context lasts."""


def test_every_task_is_in_the_table() -> None:
    assert set(KILLED) == set(TASKS)


@pytest.mark.parametrize("task", KILLED)
async def test_a_job_whose_worker_was_killed_is_done_by_another(site: Installation, task: str) -> None:
    async with KILLED[task](site) as (settings, begun):
        victim = site.start("worker", **settings)

        async def is_in_the_middle() -> bool:
            async with site.db.read() as connection:
                return bool(await connection.scalar(begun.middle))

        await until(is_in_the_middle)
        assert (await job_states(site.db))[begun.job_id] == "doing"
        await victim.kill()
    assert not await begun.is_done()
    async with site.db.begin() as connection:
        await connection.execute(_SILENT, {"for_s": STALLED_AFTER_S + 1})
    worker = site.start("worker")

    async def is_done() -> bool:
        return (await job_states(site.db))[begun.job_id] == "succeeded"

    await until(is_done)
    assert await begun.is_done()
    # A worker that begins defers by itself what was due by the clock minutes ago, and may have died in that, too.
    assert begun.job_id in [event["job_id"] for event in worker.events("queue.stalled_job_put_back")]
    worker.clear_away()
