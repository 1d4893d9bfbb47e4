from pathlib import Path

from tests.chaos import g21

GENEROUS = g21.Limits(plans_p99_ms=5_000, esim_p99_ms=5_000, transaction_s=30, took_latencies=20)
"""What a machine must do that has other things to do; `make chaos` holds it to the real ones."""


async def test_hundreds_who_wait_on_a_slow_supplier_hold_nobody_up_and_send_nothing_twice(
    tmp_path: Path, postgres_url: str
) -> None:
    outcome = await g21.run(
        tmp_path,
        n=500,
        seed=1,
        latency_s=4,
        arriving_in_s=2,
        places=10,
        limits=GENEROUS,
        postgres_url=postgres_url,
    )
    assert outcome.failures == []
    assert outcome.verdict.is_clean, outcome.verdict.cases
