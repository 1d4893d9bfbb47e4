"""Do this later: a job in the same transaction as what it follows."""

import asyncio
from typing import Any

import procrastinate
import pytest
from sqlalchemy import text

from app.db import Database
from app.house import House
from app.jobs.queue_app import build_queue_app
from app.queue import (
    FINISHED_KEPT_DAYS,
    LONGEST_JOB_S,
    STALLED_AFTER_S,
    Job,
    PutBack,
    enqueue,
    forget_finished_jobs,
    put_back_stalled,
)


async def jobs(db: Database) -> list[Any]:
    query = (
        "SELECT queue_name, task_name, args, status, attempts, lock, scheduled_at FROM procrastinate_jobs ORDER BY id"
    )
    async with db.read() as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


async def test_a_committed_act_has_its_job_with_its_arguments_as_json(db: Database) -> None:
    async with db.begin() as connection:
        await enqueue(connection, Job.ESIM_PROVISIONED, esim_id=7)
    assert await jobs(db) == [("esims.provisioned", "esims.provisioned", {"esim_id": 7}, "todo", 0, None, None)]


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


async def test_a_job_is_refused_where_nothing_could_roll_it_back(db: Database) -> None:
    async with db.read() as connection:
        with pytest.raises(RuntimeError, match="in the transaction of the act"):
            await enqueue(connection, Job.ESIM_PROVISIONED, esim_id=7)
    assert await jobs(db) == []


# --- jobs whose worker was killed

_DOING = text("""
    WITH worker AS (INSERT INTO procrastinate_workers (last_heartbeat)
                    VALUES (now() - make_interval(secs => :silent_s)) RETURNING id)
    UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM worker) WHERE status = 'todo'
""")


async def taken_up(db: Database, *, silent_s: float) -> None:
    """All waiting jobs, by a worker that has said nothing for so long."""
    async with db.begin() as connection:
        await connection.execute(_DOING, {"silent_s": silent_s})


async def enqueued(db: Database, number: int) -> None:
    async with db.begin() as connection:
        for _ in range(number):
            await enqueue(connection, Job.ESIM_PROVISIONED, esim_id=7)


async def put_back(db: Database) -> list[PutBack]:
    async with db.begin() as connection:
        return await put_back_stalled(connection)


async def test_jobs_of_a_worker_that_has_gone_silent_are_put_back_and_those_of_a_living_one_are_not(
    db: Database,
) -> None:
    await enqueued(db, 1)
    await taken_up(db, silent_s=STALLED_AFTER_S - 10)
    await enqueued(db, 1)
    await taken_up(db, silent_s=STALLED_AFTER_S + 1)
    assert [job.task for job in await put_back(db)] == ["esims.provisioned"]
    assert [(job[3], job[4]) for job in await jobs(db)] == [("doing", 0), ("todo", 1)]
    assert await put_back(db) == []


async def test_jobs_of_a_worker_that_is_off_the_list_are_put_back(db: Database) -> None:
    """A worker that starts takes those off it that have gone silent."""
    await enqueued(db, 1)
    await taken_up(db, silent_s=0)
    async with db.begin() as connection:
        await connection.execute(text("DELETE FROM procrastinate_workers"))
    assert len(await put_back(db)) == 1


_AGE = text("UPDATE procrastinate_events SET at = at - make_interval(secs => :age_s)")


async def test_a_job_whose_worker_lives_and_could_not_say_how_it_ended_is_put_back(db: Database) -> None:
    await enqueued(db, 1)
    await taken_up(db, silent_s=0)
    async with db.begin() as connection:
        await connection.execute(_AGE, {"age_s": LONGEST_JOB_S - 60})
    assert await put_back(db) == []
    async with db.begin() as connection:
        await connection.execute(_AGE, {"age_s": 61})
    assert len(await put_back(db)) == 1
    assert [(job[3], job[4]) for job in await jobs(db)] == [("todo", 1)]


async def test_a_stalled_job_is_put_back_once_by_many_who_look_at_the_same_time(db: Database) -> None:
    await enqueued(db, 20)
    await taken_up(db, silent_s=STALLED_AFTER_S + 1)
    found = await asyncio.gather(*(put_back(db) for _ in range(8)))
    assert sum(map(len, found)) == 20
    assert [job[4] for job in await jobs(db)] == [1] * 20


async def test_every_job_has_its_task_in_a_queue_of_its_name(house: House) -> None:
    tasks = build_queue_app(house).tasks
    assert {job.value: tasks[job.value].queue for job in Job} == {job.value: job.value for job in Job}


# --- jobs that were done

_FINISHED = text("""
    WITH done AS (
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args, status, attempts)
        SELECT 'a', 'a', 0, '{}', CAST(:status AS procrastinate_job_status), 1 FROM generate_series(1, :number) RETURNING id
    ) INSERT INTO procrastinate_events (job_id, type, at)
    SELECT id, 'succeeded', now() - make_interval(days => :days) - interval '1 minute' FROM done
""")


async def finished(db: Database, status: str, *, days: int, number: int = 1) -> None:
    async with db.begin() as connection:
        await connection.execute(_FINISHED, {"status": status, "days": days, "number": number})


async def test_what_was_done_a_week_ago_is_forgotten_however_much_it_is_and_nothing_else(db: Database) -> None:
    await finished(db, "failed", days=FINISHED_KEPT_DAYS)
    await finished(db, "succeeded", days=FINISHED_KEPT_DAYS - 1)  # tried for long: its number is an old one
    await finished(db, "succeeded", days=FINISHED_KEPT_DAYS, number=1500)
    await finished(db, "succeeded", days=0)
    await enqueued(db, 1)
    await forget_finished_jobs(db)
    assert [job[3] for job in await jobs(db)] == ["failed", "succeeded", "succeeded", "todo"]


async def test_the_queue_gives_up_a_path_that_has_gone_silent(house: House) -> None:
    async with build_queue_app(house).open_async() as app:
        assert isinstance(app.connector, procrastinate.PsycopgConnector)
        async with app.connector.pool.connection() as connection:
            told = connection.info.get_parameters()
            assert (told["tcp_user_timeout"], told["application_name"]) == ("10000", "tribi-jobs")
            assert connection.prepare_threshold is None
