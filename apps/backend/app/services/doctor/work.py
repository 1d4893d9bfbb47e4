"""Background work: is anybody doing it, and does it get done?"""

from app.house import House
from app.queue import OVERDUE_AFTER_S, Standing, standing_of_jobs
from app.services.doctor.findings import Finding, failed, failed_when, passed

_PAGE = "docs/operations/jobs.md"


async def check_jobs(house: House) -> list[Finding]:
    async with house.db.read() as connection:
        standing = await standing_of_jobs(connection)
    return [_workers(standing, is_live=house.settings.is_live), _failed(standing)]


def _workers(standing: Standing, *, is_live: bool) -> Finding:
    waiting = f"jobs that have waited for more than {OVERDUE_AFTER_S // 60} minutes: {standing.overdue}"
    if standing.workers == 0:
        detail = "no server or worker runs: travellers get no mail, and nothing settles what a dead process left"
        detail += f"; {waiting}" if standing.overdue else ""
        return failed_when(is_live and standing.overdue > 0, "jobs", detail, "start `tribi serve`, or `tribi worker`")
    running = f"{standing.workers} {'process is' if standing.workers == 1 else 'processes are'} at work"
    if standing.overdue:
        return failed("jobs", f"{running}, and yet: {waiting}", f"look at their logs, and start more; {_PAGE}")
    return passed("jobs", f"{running}, no job is late")


def _failed(standing: Standing) -> Finding:
    if standing.failed == 0:
        return passed("jobs-failed", "none was given up")
    return failed(
        "jobs-failed", f"given up, so that a traveller may be without mail: {standing.failed}", f"see {_PAGE}"
    )
