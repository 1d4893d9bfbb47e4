"""`tribi worker`: does what servers have queued, also what one of them or another worker has left undone when it was killed."""

import asyncio
import signal
import socket

from pydantic import SecretStr
from sqlalchemy import text

from app.house import House
from app.queue import QUEUE
from app.services.esim_providers import get_esim_provider
from app.services.esims.activate import Activations
from app.settings import Settings
from app.vault import Keyring
from tests.conftest import KEY
from tests.processes.installations import API_KEY, PARTNER_ID, Installation
from tests.processes.programs import until

_JOB = text(
    "SELECT status::text FROM procrastinate_jobs"
    " WHERE task_name = 'esims.provisioned' AND args @> jsonb_build_object('esim_id', CAST(:esim_id AS bigint))"
)
_PUT_BACK = text(
    "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(:queue, 'queue.retry_stalled', 0, NULL, NULL,"
    " '{\"timestamp\": 0}'::jsonb, NULL)::procrastinate_job_to_defer_v1])"
)


async def activated(site: Installation, order_id: int, *, wait_s: float = 10) -> None:
    """By a server that is gone afterwards, and never worked on jobs."""
    settings = Settings(
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


async def test_a_job_whose_worker_was_killed_is_done_by_another(site: Installation) -> None:
    order_id = await site.order()
    await activated(site, order_id)
    with socket.create_server(("127.0.0.1", 0)) as mail_server:  # one that never says a word
        mail_server.setblocking(False)
        mail = {"SMTP_URL": f"smtp://127.0.0.1:{mail_server.getsockname()[1]}", "MAIL_FROM": "shop@example.com"}
        victim = site.start("worker", **mail)
        caller, _ = await asyncio.get_running_loop().sock_accept(mail_server)
        with caller:
            assert await job_of(site, order_id) == "doing"
            await victim.kill()
    async with site.db.begin() as connection:
        await connection.execute(text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '6 minutes'"))
        await connection.execute(text("UPDATE outgoing_mails SET leased_until = now() - interval '1 second'"))
        await connection.execute(_PUT_BACK, {"queue": QUEUE})  # which the timetable does each minute
    worker = site.start("worker")
    await until(lambda: worker.events("queue.stalled_job_put_back"))
    await site.has_mail(order_id)
