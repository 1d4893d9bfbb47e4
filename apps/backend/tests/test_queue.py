"""Do this later: a job in the same transaction as what it follows."""

from typing import Any

import pytest
from sqlalchemy import text

from app.db import Database
from app.house import House
from app.jobs.queue_app import build_queue_app
from app.queue import QUEUE, Job, enqueue


async def jobs(db: Database) -> list[Any]:
    query = (
        "SELECT queue_name, task_name, args, status, attempts, lock, scheduled_at FROM procrastinate_jobs ORDER BY id"
    )
    async with db.read() as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


async def test_a_committed_act_has_its_job_with_its_arguments_as_json(db: Database) -> None:
    async with db.begin() as connection:
        await enqueue(connection, Job.ESIM_PROVISIONED, esim_id=7)
    assert await jobs(db) == [(QUEUE, "esims.provisioned", {"esim_id": 7}, "todo", 0, None, None)]


async def test_arguments_keep_their_types_and_odd_letters(db: Database) -> None:
    given = {"number": 2**62, "text": "%s :name \\ ' \" ☎", "nothing": None, "list": [1, "two", {"three": False}]}
    async with db.begin() as connection:
        await enqueue(connection, Job.ESIM_PROVISIONED, **given)
    [job] = await jobs(db)
    assert job[2] == given


async def test_an_act_that_is_rolled_back_has_no_job(db: Database) -> None:
    async def fail() -> None:
        async with db.begin() as connection:
            await enqueue(connection, Job.ESIM_PROVISIONED, esim_id=7)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await jobs(db) == []


async def test_nobody_sees_a_job_before_its_act_is_committed(db: Database) -> None:
    async with db.begin() as connection:
        await enqueue(connection, Job.ESIM_PROVISIONED, esim_id=7)
        assert await jobs(db) == []
    assert len(await jobs(db)) == 1


async def test_every_job_has_its_task_in_our_queue(house: House) -> None:
    tasks = build_queue_app(house).tasks
    assert {job.value for job in Job} <= set(tasks)
    assert {tasks[job.value].queue for job in Job} == {QUEUE}
