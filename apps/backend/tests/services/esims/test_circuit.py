"""The circuit: a provider that fails call after call is given a rest, by all processes together."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app import metrics
from app.errors import ProviderPaused, TribiError
from app.house import House
from app.services.esim_providers import (
    Accepted,
    Answer,
    Delivered,
    EsimProvider,
    SupplierNotConfigured,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
    SupplierUnreachable,
    get_esim_provider,
)
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esim_providers.connected_you.wire import Wire
from app.services.esims import circuit
from app.services.esims.activate import Activations
from app.services.esims.circuit import Pause, failure_of, rest_s
from app.services.esims.intent import Intent, declare_intent
from app.services.esims.recover import sweep
from app.values.activation_code import ActivationCode
from tests.builders import an_order
from tests.processes.programs import until
from tests.services.esims.conftest import TIMEOUT_S, MakeActivations, on_file
from tests.services.esims.statements import statements_of
from tests.stand_in import StandIn, respond

OpenProcess = Callable[..., Activations]


@pytest.fixture
async def provider(supplier: StandIn) -> AsyncIterator[ConnectedYou]:
    """With more patience than the others have: it is the test that lets a held request go, however slow the machine is."""
    live = ConnectedYou(
        partner_id="partner-of-tests", api_key="key-of-tests", base_url=supplier.url, line=Wire("key-of-tests", 60)
    )
    yield live
    await live.close()


@pytest.fixture
def process(make_activations: MakeActivations, house: House) -> OpenProcess:
    """Makes what another process would have, with a circuit that so many failures open."""

    def open_one(failures: int, provider: EsimProvider | None = None) -> Activations:
        settings = house.settings.model_copy(update={"provider_circuit_failures": failures})
        given = {} if provider is None else {"by": provider}
        return make_activations(of=replace(house, settings=settings), **given)

    return open_one


async def ending(activations: Activations, order_id: int) -> str:
    """How an activation ended: "bought", "replayed" or a problem's code."""
    try:
        activation = await activations.activate(order_id, actor="key:1")
    except TribiError as error:
        return error.code
    return "bought" if activation.is_first else "replayed"


async def tried(house: House, activations: Activations) -> str:
    """The ending of a new order's activation."""
    return await ending(activations, await an_order(house.db))


async def on_row(house: House) -> Any:
    async with house.db.read() as connection:
        return (await connection.execute(text("SELECT * FROM provider_states"))).one_or_none()


async def rest_given_s(house: House) -> int:
    """How long the rest is that was begun last, whenever that was (the transaction that began it took less than ten seconds)."""
    async with house.db.read() as connection:
        query = text("SELECT extract(epoch FROM probe_at - updated_at) FROM provider_states")
        return int(await connection.scalar(query)) // 10 * 10


async def the_rest_is_over(house: House) -> None:
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE provider_states SET probe_at = now() - interval '1 second'"))


async def opened(house: House, activations: Activations, supplier: StandIn, failures: int) -> None:
    """The circuit is opened by so many failures; none of them was for an order that a test names."""
    supplier.script(*["status_500_before"] * failures)
    assert [await tried(house, activations) for _ in range(failures)] == ["activation-outcome-unknown"] * failures
    assert (await on_row(house)).circuit_opened_at is not None


# --- what counts

DELIVERED = Delivered(ActivationCode.read("LPA:1$smdp.example.com$X"), Answer(200, b"{}"))


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (SupplierUnreachable("x"), "provider-unreachable"),
        (SupplierOutcomeUnknown("x"), "activation-outcome-unknown"),
        (SupplierRefused("x", concerns_account=True), "provider-refused"),
        (SupplierRefused("x"), None),
        (SupplierRateLimited("x"), None),
        (SupplierNotConfigured("x"), None),
        (Accepted(Answer(202, b"{}")), None),
        (DELIVERED, None),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_only_what_is_about_the_provider_counts(result: Any, reason: str | None) -> None:
    assert failure_of(result) == reason


def test_the_rest_doubles_with_each_failed_probe_up_to_five_minutes() -> None:
    assert [rest_s(failed) for failed in (0, 1, 2, 3, 4, 5, 1_000_000)] == [30, 60, 120, 240, 300, 300, 300]


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("status_401", "provider-refused"),
        ("status_402", "provider-refused"),
        ("status_403", "provider-refused"),
        ("status_500_before", "activation-outcome-unknown"),
        ("status_503_before", "activation-outcome-unknown"),
        ("close_after", "activation-outcome-unknown"),
        ("half_json", "activation-outcome-unknown"),
    ],
)
async def test_failures_in_a_row_that_are_about_the_provider_open_it(
    house: House, process: OpenProcess, supplier: StandIn, fault: str, problem: str
) -> None:
    activations = process(3)
    supplier.script(*[fault] * 3)
    assert [await tried(house, activations) for _ in range(4)] == [problem] * 3 + ["provider-paused"]
    assert (await on_row(house)).circuit_reason == problem
    assert supplier.request_count == 3


async def test_a_supplier_that_cannot_be_reached_opens_it(
    house: House, process: OpenProcess, supplier: StandIn
) -> None:
    activations = process(2)
    supplier.refuse()
    endings = [await tried(house, activations) for _ in range(3)]
    assert endings == ["provider-unreachable", "provider-unreachable", "provider-paused"]


@pytest.mark.parametrize("fault", ["none", "status_429", "status_404", "status_422"])
async def test_anything_else_that_comes_back_ends_the_run(
    house: House, process: OpenProcess, supplier: StandIn, fault: str
) -> None:
    activations = process(2)
    supplier.script("status_500_before", fault, "status_500_before", "none")
    endings = [await tried(house, activations) for _ in range(4)]
    assert "provider-paused" not in endings
    assert (await on_row(house)).failures_in_a_row == 0


async def test_what_the_sweep_finds_does_not_count(house: House, process: OpenProcess, provider: ConnectedYou) -> None:
    await an_intent(house, provider)
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE provisioning_attempts SET deadline_at = now() - interval '1 second'"))
    assert await sweep(house.db) == 1
    assert await on_row(house) is None
    assert await tried(house, process(1)) == "bought"


async def test_two_processes_count_together(house: House, process: OpenProcess, supplier: StandIn) -> None:
    here, there = process(3), process(3)
    supplier.script(*["status_500_before"] * 3)
    for activations in (here, there, here):
        assert await tried(house, activations) == "activation-outcome-unknown"
    assert [await tried(house, activations) for activations in (here, there)] == ["provider-paused"] * 2


async def test_a_success_in_one_process_ends_the_run_of_another(
    house: House, process: OpenProcess, supplier: StandIn
) -> None:
    here, there = process(2), process(2)
    supplier.script("status_500_before", "none", "status_500_before", "none")
    endings = [await tried(house, activations) for activations in (here, there, here, here)]
    assert endings == ["activation-outcome-unknown", "bought"] * 2


async def test_a_success_that_left_before_the_failure_was_counted_ends_the_run(
    house: House, process: OpenProcess, supplier: StandIn
) -> None:
    activations = process(2)
    orders = [await an_order(house.db) for _ in range(2)]
    supplier.script("hold", "hold")
    calls = [asyncio.create_task(ending(activations, order_id)) for order_id in orders]
    await supplier.wait_until_held(2)
    supplier.release(1, then="status_500_before")
    await until(lambda: any(call.done() for call in calls))
    assert (await on_row(house)).failures_in_a_row == 1
    supplier.release()
    assert Counter(await asyncio.gather(*calls)) == {"activation-outcome-unknown": 1, "bought": 1}
    assert (await on_row(house)).failures_in_a_row == 0


async def test_zero_failures_never_open_it_and_heed_no_pause_of_before(
    house: House, process: OpenProcess, supplier: StandIn
) -> None:
    await opened(house, process(1), supplier, 1)
    never = process(0)
    supplier.script(*["status_500_before"] * 3)
    endings = [await tried(house, never) for _ in range(4)]
    assert endings == ["activation-outcome-unknown"] * 3 + ["bought"]


async def test_a_storm_of_failures_is_counted_whole(house: House, process: OpenProcess, supplier: StandIn) -> None:
    here, there = process(1000), process(1000)
    orders = [await an_order(house.db) for _ in range(40)]
    supplier.script(*["hold"] * 40)
    calls = [asyncio.create_task(ending((here, there)[order_id % 2], order_id)) for order_id in orders]
    await supplier.wait_until_held(40)
    supplier.release(then="status_500_before")
    assert set(await asyncio.gather(*calls)) == {"activation-outcome-unknown"}
    assert (await on_row(house)).failures_in_a_row == 40


# --- while it is open


async def test_while_it_is_open_nothing_is_sent_and_orders_stay_pending(
    house: House, process: OpenProcess, supplier: StandIn
) -> None:
    activations = process(1)
    await opened(house, activations, supplier, 1)
    order_id = await an_order(house.db)
    with pytest.raises(ProviderPaused) as paused:
        await activations.activate(order_id, actor="key:1")
    assert paused.value.retry_after_s is not None
    assert 0 < paused.value.retry_after_s <= 30
    filed = await on_file(house, order_id)
    assert (filed.profile.status, filed.attempts, filed.audit) == ("pending", [], [])
    assert supplier.request_count == 1


async def test_settled_orders_are_answered_while_it_is_open(
    house: House, process: OpenProcess, supplier: StandIn
) -> None:
    activations = process(1)
    order_id = await an_order(house.db)
    assert await ending(activations, order_id) == "bought"
    await opened(house, activations, supplier, 1)
    assert await ending(activations, order_id) == "replayed"


async def test_calls_that_left_before_it_opened_change_nothing_any_more(
    house: House, process: OpenProcess, supplier: StandIn
) -> None:
    activations = process(2)
    orders = [await an_order(house.db) for _ in range(6)]
    supplier.script(*["hold"] * 6)
    calls = [asyncio.create_task(ending(activations, order_id)) for order_id in orders]
    await supplier.wait_until_held(6)
    supplier.release(2, then="status_500_before")
    await until(lambda: sum(call.done() for call in calls) == 2)
    opened_so = await on_row(house)
    assert opened_so.circuit_opened_at is not None
    supplier.release(3, then="status_500_before")
    await until(lambda: sum(call.done() for call in calls) == 5)
    supplier.release()
    assert Counter(await asyncio.gather(*calls)) == {"activation-outcome-unknown": 5, "bought": 1}
    assert await on_row(house) == opened_so


async def test_a_dry_run_sends_nothing_and_is_not_paused(house: House, process: OpenProcess, supplier: StandIn) -> None:
    await opened(house, process(1), supplier, 1)
    dry = get_esim_provider(house.settings)
    assert not dry.is_live
    assert await tried(house, process(1, dry)) == "bought"


async def test_it_tells_since_when_it_is_open_and_why(house: House, process: OpenProcess, supplier: StandIn) -> None:
    activations, never = process(1), process(0)

    async def pauses() -> list[Pause | None]:
        async with house.db.read() as connection:
            return [await each.circuit.pause(connection) for each in (activations, never)]

    assert await pauses() == [None, None]
    await opened(house, activations, supplier, 1)
    row = await on_row(house)
    assert await pauses() == [Pause(row.circuit_opened_at, "activation-outcome-unknown", row.probe_at), None]


# --- the probe


async def an_intent(house: House, provider: ConnectedYou) -> Intent:
    """An attempt on file whose process goes no further."""
    order_id = await an_order(house.db)
    async with house.db.begin() as connection:
        intent = await declare_intent(connection, house.vault, provider, order_id, actor="key:1", timeout_s=TIMEOUT_S)
    assert isinstance(intent, Intent)
    return intent


async def test_after_the_rest_one_call_of_all_processes_goes_out(
    house: House, process: OpenProcess, supplier: StandIn
) -> None:
    here, there = process(1), process(1)
    await opened(house, here, supplier, 1)
    await the_rest_is_over(house)
    orders = [await an_order(house.db) for _ in range(50)]
    supplier.script("hold")
    calls = [asyncio.create_task(ending((here, there)[order_id % 2], order_id)) for order_id in orders]
    await supplier.wait_until_held(1)
    await until(lambda: sum(call.done() for call in calls) == 49)
    supplier.release()
    assert Counter(await asyncio.gather(*calls)) == {"provider-paused": 49, "bought": 1}
    assert supplier.request_count == 2
    assert await tried(house, there) == "bought"


@pytest.mark.parametrize(
    ("fault", "result"),
    [("none", "bought"), ("status_429", "provider-rate-limited"), ("status_422", "provider-refused")],
)
async def test_a_probe_that_is_answered_closes_it(
    house: House, process: OpenProcess, supplier: StandIn, fault: str, result: str
) -> None:
    activations = process(2)
    await opened(house, activations, supplier, 2)
    await the_rest_is_over(house)
    supplier.script(fault)
    assert await tried(house, activations) == result
    row = await on_row(house)
    assert (row.circuit_opened_at, row.probe_at, row.failures_in_a_row, row.failed_probes) == (None, None, 0, 0)
    supplier.script("status_500_before")  # a run begins anew
    assert [await tried(house, activations) for _ in range(2)] == ["activation-outcome-unknown", "bought"]


async def test_a_failed_probe_lengthens_the_rest(house: House, process: OpenProcess, supplier: StandIn) -> None:
    activations = process(1)
    await opened(house, activations, supplier, 1)
    for failed, rest in ((1, 60), (2, 120)):
        await the_rest_is_over(house)
        supplier.script("status_500_before")
        assert await tried(house, activations) == "activation-outcome-unknown"
        assert (await on_row(house)).failed_probes == failed
        assert await rest_given_s(house) == rest
        assert await tried(house, activations) == "provider-paused"


async def test_a_probe_whose_process_died_gives_way_to_another_after_its_deadline(
    house: House, process: OpenProcess, provider: ConnectedYou, supplier: StandIn
) -> None:
    activations = process(1)
    await opened(house, activations, supplier, 1)
    await the_rest_is_over(house)
    dead = await an_intent(house, provider)
    assert dead.circuit.probe is not None
    assert await rest_given_s(house) == TIMEOUT_S + 5
    assert await tried(house, activations) == "provider-paused"
    await the_rest_is_over(house)
    assert await tried(house, activations) == "bought"


async def test_a_probe_that_comes_back_after_another_has_gone_changes_nothing(
    house: House, process: OpenProcess, provider: ConnectedYou, supplier: StandIn
) -> None:
    activations = process(1)
    await opened(house, activations, supplier, 1)
    await the_rest_is_over(house)
    late = await an_intent(house, provider)
    await the_rest_is_over(house)
    supplier.script("status_500_before")
    assert await tried(house, activations) == "activation-outcome-unknown"
    before = await on_row(house)
    for result in (SupplierUnreachable("late"), DELIVERED):
        await activations.circuit.heard(late.circuit, result)
        assert await on_row(house) == before


async def test_an_order_that_cannot_be_prepared_uses_no_probe_up(
    house: House, process: OpenProcess, supplier: StandIn
) -> None:
    activations = process(1)
    await opened(house, activations, supplier, 1)
    await the_rest_is_over(house)
    assert await ending(activations, await an_order(house.db, code=None)) == "provider-not-configured"
    assert await tried(house, activations) == "bought"


async def test_a_hold_goes_before_a_probe(house: House, process: OpenProcess, supplier: StandIn) -> None:
    activations = process(1)
    await opened(house, activations, supplier, 1)
    await the_rest_is_over(house)
    supplier.script(respond(429, "slow down", {"Retry-After": "120"}))
    endings = [await tried(house, activations) for _ in range(2)]
    assert endings == ["provider-rate-limited"] * 2
    assert supplier.request_count == 2


# --- what it costs, and what it tells


@pytest.mark.parametrize("has_failed_before", [False, True])
async def test_a_healthy_provider_costs_an_activation_no_statement_and_no_lock(
    house: House, process: OpenProcess, supplier: StandIn, has_failed_before: bool
) -> None:
    if has_failed_before:
        supplier.script("status_500_before", "none")
        for _ in range(2):
            await tried(house, process(20))
    without = await statements_of(house, process(0))
    healthy = await statements_of(house, process(20))
    assert healthy == without
    [about_it] = [statement for statement in healthy if "provider_states" in statement]
    assert about_it.startswith("SELECT")
    assert "FOR UPDATE" not in about_it


async def test_its_opening_and_closing_are_told(house: House, process: OpenProcess, supplier: StandIn) -> None:
    openings = metrics.CIRCUIT_OPENINGS.labels("CONNECTED_YOU")
    before = openings._value.get()  # noqa: SLF001 - prometheus-client has no public way
    activations = process(2)
    with capture_logs() as logs:
        await opened(house, activations, supplier, 2)
        await the_rest_is_over(house)
        supplier.script("status_500_before")
        await tried(house, activations)
        await the_rest_is_over(house)
        assert await tried(house, activations) == "bought"
    opening_line, failed_line, closed_line = [line for line in logs if line["event"].startswith("providers.")]
    names = {"provider": "CONNECTED_YOU", "reason": "activation-outcome-unknown"}
    assert opening_line == names | {
        "event": "providers.circuit_opened",
        "log_level": "error",
        "failures_in_a_row": 2,
        "effect": "nothing is sent; a probe goes in 30 s at the earliest",
    }
    assert failed_line == names | {
        "event": "providers.circuit_probe_failed",
        "log_level": "warning",
        "next_probe_in_s": 60,
    }
    assert (closed_line["event"], closed_line["log_level"]) == ("providers.circuit_closed", "info")
    assert closed_line["provider"] == "CONNECTED_YOU"
    assert isinstance(closed_line["was_open_s"], int)
    assert openings._value.get() == before + 1  # noqa: SLF001 - as above
    async with house.db.read() as connection:
        query = text("SELECT tag, actor, details FROM audit_log WHERE subject_type = 'provider_states' ORDER BY id")
        trail = [tuple(row) for row in await connection.execute(query)]
    opening = {"provider": "CONNECTED_YOU", "reason": "activation-outcome-unknown", "failures_in_a_row": 2}
    assert trail == [
        ("providers.circuit_opened", "system", opening),
        ("providers.circuit_closed", "system", {"provider": "CONNECTED_YOU", "failed_probes": 1}),
    ]


async def test_a_count_that_cannot_be_written_keeps_nobody_waiting(
    house: House, process: OpenProcess, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    activations = process(20)
    supplier.script(*["status_500_before"] * 2)
    await tried(house, activations)
    monkeypatch.setattr(circuit, "_WITHIN_S", 0.2)
    async with house.db.begin() as connection:  # a process that was stopped in the middle of counting
        await connection.execute(text("SELECT 1 FROM provider_states FOR UPDATE"))
        with capture_logs() as logs:
            assert await tried(house, activations) == "activation-outcome-unknown"
    [line] = [line for line in logs if line["event"].startswith("providers.")]
    assert (line["event"], line["log_level"]) == ("providers.circuit_not_written", "warning")
    assert (line["provider"], line["reason"]) == ("CONNECTED_YOU", "")
