"""G17: this release takes the place of the one before it, while orders come in, and no call fails."""

from pathlib import Path

from tests.chaos import g17

# Under load a backend may be late to notice that its time for waiting is over (its limit itself: tests/test_migrations.py), and
# the balancer, which shares a process with the buyers here, to notice that a server is unready.
_ON_A_BUSY_MACHINE = g17.Limits(lock_wait_s=2, shutdown_delay_s=10)


async def test_no_call_fails_and_no_attempt_is_lost_while_releases_change(tmp_path: Path, server_url: str) -> None:
    outcome = await g17.run(tmp_path, n=1, seed=17, per_s=25, postgres_url=server_url, limits=_ON_A_BUSY_MACHINE)
    assert outcome.failures == []
    assert outcome.verdict.is_clean, outcome.verdict.cases
