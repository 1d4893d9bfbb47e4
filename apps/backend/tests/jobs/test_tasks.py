"""Every task bears running twice, one after the other and at the same time: it comes to the same, once."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from procrastinate.jobs import Job as QueuedJob
from procrastinate.tasks import Task
from sqlalchemy import text
from structlog.testing import capture_logs

from app import metrics
from app.db import Database
from app.house import House
from app.jobs import queue_app
from app.jobs.queue_app import MOST_RETRIES, build_queue_app
from app.jobs.running import keep_working
from app.mail import MailNotSent
from app.queue import EARLIER_QUEUE
from app.services.accounts.codes import request_code
from app.services.esim_providers import get_esim_provider
from app.services.esims.activate import Activations
from app.services.esims.resend import resend_instructions
from app.settings import BACKEND_DIR
from tests.builders import an_order, provisioned
from tests.jobs.queue_rows import an_old_job, deferred, job_states
from tests.mailbox import Mailbox
from tests.processes.programs import until
from tests.services.news.conftest import Ears, lifecycle


@dataclass(frozen=True)
class Work:
    """Something to be done. `state` is looked at afterwards, and must be `done`."""

    args: dict[str, Any]
    state: Callable[[], Awaitable[object]]
    done: object


async def instructions_to_send(house: House, mailbox: Mailbox) -> Work:
    activations = Activations(house, get_esim_provider(house.settings), timeout_s=5, wait_s=30, max_concurrency=1)
    esim = (await activations.activate(await an_order(house.db), actor="test")).esim

    async def messages() -> object:
        return names_of(mailbox)

    return Work({"esim_id": esim.id}, messages, [f"esim-{esim.id}-instructions"])


async def a_message_to_send(house: House, mailbox: Mailbox) -> Work:
    esim_id = (await instructions_to_send(house, mailbox)).args["esim_id"]
    written = await resend_instructions(house, esim_id, actor="test")

    async def messages() -> object:
        return [name for name in names_of(mailbox) if "resend" in name]

    return Work({"mail_id": written.mail_id}, messages, [f"esim-{esim_id}-resend-1"])


async def a_plan_that_ends(house: House, mailbox: Mailbox) -> Work:
    esim_id = (await instructions_to_send(house, mailbox)).args["esim_id"]
    async with house.db.begin() as connection:
        await connection.execute(
            text(
                "UPDATE esim_profiles SET plan_state = 'active', plan_active_at = now() - interval '29 days 1 hour',"
                " plan_expires_at = now() + interval '23 hours'"
            )
        )

    async def notices() -> object:
        return [name for name in names_of(mailbox) if "expires" in name]

    return Work({"timestamp": 0}, notices, [f"esim-{esim_id}-expires_24h"])


def names_of(mailbox: Mailbox) -> list[str]:
    """Of the messages: without what tells installations apart."""
    return [str(message["Message-ID"]).strip("<").partition(".")[0] for message in mailbox.messages]


async def old_jobs_to_remove(house: House, _: Mailbox) -> Work:
    old = await an_old_job(house.db, "succeeded")
    kept = [await an_old_job(house.db, "failed"), await an_old_job(house.db, "succeeded", days=1)]

    async def left() -> object:
        states = await job_states(house.db)
        return [job_id for job_id in (old, *kept) if job_id in states]

    return Work({"timestamp": 0}, left, kept)


async def an_event_to_look_at(house: House, _: Mailbox) -> Work:
    ears = Ears(house)
    esim_id, iccid = await ears.sold()
    await ears.receive(lifecycle(iccid, "ENABLED", "10:00"))
    [event] = await ears.events()
    return Work({"event_id": event.id}, lambda: ears.told(esim_id), [("profile_state_changed", "enabled")])


async def an_event_to_catch_up_with(house: House, _: Mailbox) -> Work:
    """Parked, and then its eSIM turned up without anybody's looking."""
    ears = Ears(house)
    order_id = await an_order(house.db)
    [iccid] = await provisioned(house.db, house.vault, [order_id])
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE esim_profiles SET provider = 'LOCAL'"))
    await ears.hear(lifecycle(iccid, "ENABLED", "10:00"))
    async with house.db.begin() as connection:
        esim_id = await connection.scalar(text("UPDATE esim_profiles SET provider = 'CONNECTED_YOU' RETURNING id"))
    return Work({"timestamp": 0}, lambda: ears.told(esim_id), [("profile_state_changed", "enabled")])


async def a_code_to_send(house: House, mailbox: Mailbox) -> Work:
    await an_order(house.db)
    await request_code(house, "ana@example.com", client="192.0.2.1", language="en")

    async def messages() -> object:
        return names_of(mailbox)

    return Work({"code_id": 1}, messages, ["sign-in-code-1"])


TASKS: dict[str, Callable[[House, Mailbox], Awaitable[Work]]] = {
    "esims.provisioned": instructions_to_send,
    "providers.event_received": an_event_to_look_at,
    "providers.events_catch_up": an_event_to_catch_up_with,
    "esims.expiring": a_plan_that_ends,
    "mails.written": a_message_to_send,
    "queue.tidy": old_jobs_to_remove,
    "travellers.sign_in_code": a_code_to_send,
}
"""How there comes to be something to do for each task. A new task needs a line here, and one in `test_worker.KILLED`."""

PAGE = BACKEND_DIR.parents[1] / "docs" / "operations" / "jobs.md"

every_task = pytest.mark.parametrize("task", TASKS)


async def worked_off(house: House, *, workers: int) -> None:
    """By so many workers at the same time, until nothing is left to do; a retry doesn't wait for its time."""

    async def work() -> None:
        async with build_queue_app(house).open_async() as opened:
            await opened.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)

    async def all_is_done() -> bool:
        async with house.db.begin() as connection:
            await connection.execute(text("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE status = 'todo'"))
        await asyncio.gather(*(work() for _ in range(workers)))
        return not {"todo", "doing"} & set((await job_states(house.db)).values())

    await until(all_is_done)


def test_every_task_is_in_the_table(house: House) -> None:
    tasks = build_queue_app(house).tasks
    assert {name for name, task in tasks.items() if task.queue == name} == set(TASKS)


@every_task
async def test_a_task_that_runs_twice_in_a_row_comes_to_the_same_once(
    mailing_house: House, mailbox: Mailbox, task: str
) -> None:
    work = await TASKS[task](mailing_house, mailbox)
    for _ in range(2):
        job_id = await deferred(mailing_house.db, task, work.args)
        await worked_off(mailing_house, workers=1)
        assert (await job_states(mailing_house.db))[job_id] == "succeeded"
    assert await work.state() == work.done


@every_task
async def test_a_task_that_runs_twice_at_the_same_time_comes_to_the_same_once(
    mailing_house: House, mailbox: Mailbox, task: str
) -> None:
    work = await TASKS[task](mailing_house, mailbox)
    job_ids = [await deferred(mailing_house.db, task, work.args) for _ in range(4)]
    await worked_off(mailing_house, workers=4)
    states = await job_states(mailing_house.db)
    assert {states[job_id] for job_id in job_ids} == {"succeeded"}
    assert await work.state() == work.done


def pauses_s(task: Task[Any, Any, Any]) -> Iterator[float]:
    """How long it rests after each failure, until it is given up."""
    for attempts in count():
        job = QueuedJob(
            id=1,
            queue=task.queue,
            lock=None,
            queueing_lock=None,
            task_name=task.name,
            task_kwargs={},
            attempts=attempts,
        )
        retry = task.get_retry_exception(MailNotSent("451"), job)
        if retry is None or retry.retry_decision.retry_at is None:
            return
        yield (retry.retry_decision.retry_at - datetime.now(UTC)).total_seconds()


@every_task
def test_a_task_is_tried_again_for_more_than_a_day_and_first_in_a_moment(house: House, task: str) -> None:
    first, *more = pauses_s(build_queue_app(house).tasks[task])
    assert first < 5
    assert sum(more) > 24 * 3600
    assert max(more) <= 3600


async def test_a_job_that_is_given_up_is_counted_and_told_of_without_anything_personal(
    mailing_house: House, mailbox: Mailbox
) -> None:
    work = await instructions_to_send(mailing_house, mailbox)
    await worked_off(mailing_house, workers=1)
    async with mailing_house.db.begin() as connection:
        await connection.execute(text("UPDATE outgoing_mails SET sent_at = NULL, leased_until = NULL"))
    job_id = await deferred(mailing_house.db, "esims.provisioned", work.args)
    async with mailing_house.db.begin() as connection:
        await connection.execute(
            text("UPDATE procrastinate_jobs SET attempts = :attempts WHERE id = :id"),
            {"attempts": MOST_RETRIES, "id": job_id},
        )
    mailbox.replies = ["451 ana@example.com is over quota"]
    counted = metrics.JOBS_FAILED.labels("esims.provisioned")
    before = counted._value.get()  # noqa: SLF001 - prometheus-client has no other way to ask
    with capture_logs() as logs:
        await worked_off(mailing_house, workers=1)
    assert (await job_states(mailing_house.db))[job_id] == "failed"
    assert counted._value.get() == before + 1  # noqa: SLF001
    [line] = [line for line in logs if line["event"] == "queue.job_failed"]
    assert (line["log_level"], line["task"], line["args"]) == ("error", "esims.provisioned", work.args)
    assert "ana@example.com" not in repr(line)


async def test_the_job_after_a_delivery_takes_up_what_was_parked_whatever_becomes_of_the_mail(
    mailing_house: House, mailbox: Mailbox
) -> None:
    work = await an_event_to_catch_up_with(mailing_house, mailbox)
    mailbox.replies = ["451 not now"]
    async with mailing_house.db.read() as connection:
        esim_id = await connection.scalar(text("SELECT id FROM esim_profiles"))
    job_id = await deferred(mailing_house.db, "esims.provisioned", {"esim_id": esim_id})
    await worked_off(mailing_house, workers=1)
    assert (await job_states(mailing_house.db))[job_id] == "succeeded"
    assert await work.state() == work.done


async def test_news_that_cannot_be_taken_up_keeps_no_mail_back(
    mailing_house: House, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = await instructions_to_send(mailing_house, mailbox)
    tries = 0

    async def broken(*_: object) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ZeroDivisionError

    monkeypatch.setattr(queue_app, "catch_up", broken)
    await worked_off(mailing_house, workers=1)
    assert (tries, await work.state()) == (2, work.done)


async def test_of_its_jobs_the_queue_logs_those_that_went_wrong(
    mailing_house: House, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A line to begin with and one at the end of each would be half of the log."""
    caplog.set_level("INFO")
    await instructions_to_send(mailing_house, mailbox)
    mailbox.replies = ["451 not now"]
    await worked_off(mailing_house, workers=1)
    assert len(mailbox.messages) == 1  # by the second try
    actions = [getattr(record, "action", "") for record in caplog.records if record.name.startswith("procrastinate")]
    assert [action for action in actions if action.startswith(("job_", "start_job"))] == ["job_error_retry"]


async def test_jobs_that_were_given_up_run_again_by_what_the_operations_page_says(
    mailing_house: House, mailbox: Mailbox
) -> None:
    work = await instructions_to_send(mailing_house, mailbox)
    async with mailing_house.db.begin() as connection:
        await connection.execute(text("UPDATE procrastinate_jobs SET status = 'doing'"))
        await connection.execute(text("UPDATE procrastinate_jobs SET status = 'failed', attempts = 37"))
    *_, press = re.findall("```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    async with mailing_house.db.begin() as connection:
        await connection.execute(text(press))
    await worked_off(mailing_house, workers=1)
    assert await work.state() == work.done


async def test_a_worker_leaves_a_job_that_it_does_not_know_to_others(mailing_house: House, mailbox: Mailbox) -> None:
    """A newer release's job, while an older one's worker is still about."""
    work = await instructions_to_send(mailing_house, mailbox)
    unknown = await deferred(mailing_house.db, "esims.of_the_next_release", {})
    known = [
        await deferred(mailing_house.db, "esims.provisioned", work.args),
        await deferred(mailing_house.db, "esims.provisioned", work.args, queue=EARLIER_QUEUE),
    ]
    working = asyncio.create_task(keep_working(mailing_house))
    try:

        async def are_done() -> bool:
            states = await job_states(mailing_house.db)
            return all(states[job_id] == "succeeded" for job_id in known)

        await until(are_done)  # the unknown one was there before them
    finally:
        working.cancel()
        await asyncio.wait([working])
    assert (await job_states(mailing_house.db))[unknown] == "todo"


async def test_a_worker_that_others_took_for_dead_goes_on(mailing_house: House, mailbox: Mailbox) -> None:
    """It was asleep for a minute, and is off the list of workers."""
    work = await instructions_to_send(mailing_house, mailbox)
    await worked_off(mailing_house, workers=1)
    working = asyncio.create_task(keep_working(mailing_house))
    try:
        await until(lambda: workers_on_the_list(mailing_house.db))
        async with mailing_house.db.begin() as connection:
            await connection.execute(text("DELETE FROM procrastinate_workers"))
        job_id = await deferred(mailing_house.db, "esims.provisioned", work.args)

        async def is_done() -> bool:
            return (await job_states(mailing_house.db))[job_id] == "succeeded"

        await until(is_done)
    finally:
        working.cancel()
        await asyncio.wait([working])


async def workers_on_the_list(db: Database) -> int:
    async with db.read() as connection:
        return int(await connection.scalar(text("SELECT count(*) FROM procrastinate_workers")) or 0)
