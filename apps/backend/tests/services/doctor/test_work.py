"""Background work."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from app.db import Database
from app.house import House
from app.services.doctor.work import check_jobs
from tests.jobs.queue_rows import an_old_job
from tests.services.doctor.conftest import Live, by_name, results, the_failure


async def a_worker(db: Database, silent_for_s: int = 0) -> None:
    async with db.begin() as connection:
        await connection.execute(
            text("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - make_interval(secs => :s))"),
            {"s": silent_for_s},
        )


async def an_overdue_job(db: Database, *, days: int = 1) -> None:
    await an_old_job(db, "todo", days=days)


async def test_a_worker_that_has_spoken_lately_passes(house: House) -> None:
    await a_worker(house.db)
    found = await check_jobs(house)
    assert results(found) == {"jobs": "passed", "jobs-failed": "passed"}
    assert by_name(found)["jobs"].detail == "1 process is at work, no job is late"


@pytest.mark.parametrize("silent_for_s", [None, 60])
async def test_without_a_living_worker_one_has_to_be_started(house: House, silent_for_s: int | None) -> None:
    if silent_for_s is not None:
        await a_worker(house.db, silent_for_s)
    found = by_name(await check_jobs(house))["jobs"]
    assert found.result.value == "by hand"
    assert found.detail.startswith("no server or worker runs")
    assert "tribi serve" in str(found.to_do)


async def test_jobs_that_nobody_takes_though_somebody_works_fail(house: House) -> None:
    await a_worker(house.db)
    await an_overdue_job(house.db)
    failure = the_failure(await check_jobs(house))
    assert failure.detail == "1 process is at work, and yet: jobs that have waited for more than 5 minutes: 1"


async def test_jobs_that_are_not_due_yet_pass(house: House) -> None:
    await a_worker(house.db)
    await an_overdue_job(house.db)
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour'"))
    assert results(await check_jobs(house))["jobs"] == "passed"


@pytest.mark.parametrize(("is_live", "result"), [(True, "failed"), (False, "by hand")])
async def test_jobs_that_wait_for_a_worker_fail_where_travellers_wait(
    house: House, live: Live, is_live: bool, result: str
) -> None:
    await an_overdue_job(house.db)
    shop = replace(house, settings=live("https://api.example.com", connected_you_dry_run=not is_live))
    assert results(await check_jobs(shop))["jobs"] == result


async def test_a_job_that_was_given_up_fails(house: House) -> None:
    await a_worker(house.db)
    await an_old_job(house.db, "failed")
    failure = the_failure(await check_jobs(house))
    assert (failure.name, failure.to_do) == ("jobs-failed", "see docs/operations/jobs.md")
