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

_JOB = text("SELECT status::text FROM procrastinate_jobs WHERE task_name = 'esims.provisioned' ORDER BY id")
_PUT_BACK = text(
    "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(:queue, 'queue.retry_stalled', 0, NULL, NULL,"
    " '{\"timestamp\": 0}'::jsonb, NULL)::procrastinate_job_to_defer_v1])"
)


async def bought(installation: Installation) -> int:
    """An order that a server has bought and has queued a job for, with nobody there to do it."""
    order_id = await installation.order()
    settings = Settings(
        esim_provider="CONNECTED_YOU",
        connected_you_dry_run=False,
        connected_you_base_url=installation.supplier.url,
        connected_you_api_key=SecretStr(API_KEY),
        connected_you_partner_id=PARTNER_ID,
    )
    house = House(settings, installation.db, Keyring.parse(KEY))
    await house.settle()
    provider = get_esim_provider(settings)
    activations = Activations(house, provider, timeout_s=10, wait_s=10, max_concurrency=1)
    await activations.activate(order_id, actor="test")
    await activations.drain(0)
    await provider.close()
    return order_id


async def jobs(installation: Installation) -> list[str]:
    async with installation.db.read() as connection:
        return list(await connection.scalars(_JOB))


async def test_it_does_what_was_queued_and_ends_when_asked(installation: Installation) -> None:
    order_id = await bought(installation)
    assert await jobs(installation) == ["todo"]
    worker = installation.start("worker")
    await installation.has_mail(order_id)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert await jobs(installation) == ["succeeded"]
    assert len(installation.mails()) == 1


async def test_it_sweeps_too(installation: Installation) -> None:
    order_id = await installation.order()
    await installation.script(order_id, "hang_after")
    server = await installation.serve()
    call = server.activating(order_id)
    await installation.hanging()
    await server.kill()
    await asyncio.gather(call, return_exceptions=True)
    await installation.expire(order_id)
    installation.start("worker")
    await installation.becomes("unknown", order_id)


async def test_a_job_whose_worker_was_killed_is_done_by_another(installation: Installation) -> None:
    order_id = await bought(installation)
    with socket.create_server(("127.0.0.1", 0)) as mail_server:  # one that never says a word
        mail_server.setblocking(False)
        mail = {"SMTP_URL": f"smtp://127.0.0.1:{mail_server.getsockname()[1]}", "MAIL_FROM": "shop@example.com"}
        victim = installation.start("worker", **mail)
        connection, _ = await asyncio.get_running_loop().sock_accept(mail_server)
        with connection:
            assert await jobs(installation) == ["doing"]
            await victim.kill()
    async with installation.db.begin() as connection:
        await connection.execute(text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '6 minutes'"))
        await connection.execute(text("UPDATE outgoing_mails SET leased_until = now() - interval '1 second'"))
        await connection.execute(_PUT_BACK, {"queue": QUEUE})  # which the timetable does each minute
    worker = installation.start("worker")
    await until(lambda: worker.events("queue.stalled_job_put_back"))
    await installation.has_mail(order_id)
    assert len(installation.mails()) == 1
