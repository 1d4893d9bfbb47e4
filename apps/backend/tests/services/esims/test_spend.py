"""The spend caps: so many live eSIMs an hour and a day, by all processes together, exactly."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.errors import PausedBy, ProviderPaused, TribiError
from app.house import House
from app.models.esims import ATTEMPT_OUTCOMES
from app.services.esim_providers import EsimProvider, get_esim_provider
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims import spend as spend_module
from app.services.esims.activate import Activations
from app.services.esims.errors import ProviderBusy
from app.services.esims.recover import sweep
from app.services.esims.resolve import resolve_not_issued
from app.services.esims.spend import Caps, caps_of, spent
from app.settings import Settings
from tests.builders import an_order
from tests.services.esims.conftest import MakeActivations, on_file
from tests.services.esims.statements import statements_of
from tests.stand_in import StandIn

AN_HOUR_S, A_DAY_S = 3600, 24 * 3600

OpenProcess = Callable[..., Activations]


@pytest.fixture
def process(make_activations: MakeActivations, house: House) -> OpenProcess:
    """Makes what another process would have, with these caps; without a circuit."""

    def open_one(hour: int = 0, day: int = 0, provider: EsimProvider | None = None) -> Activations:
        caps = {"live_esims_per_hour": hour, "live_esims_per_day": day, "provider_circuit_failures": 0}
        given = {} if provider is None else {"by": provider}
        return make_activations(of=replace(house, settings=house.settings.model_copy(update=caps)), **given)

    return open_one


async def ending(activations: Activations, order_id: int) -> str:
    """How an activation ended: "bought", "replayed", a problem's code, or what has paused the provider."""
    try:
        activation = await activations.activate(order_id, actor="key:1")
    except ProviderPaused as paused:
        return f"paused by {paused.by}"
    except TribiError as error:
        return error.code
    return "bought" if activation.is_first else "replayed"


async def tried(house: House, activations: Activations, times: int = 1) -> list[str]:
    """The endings of new orders' activations, one after the other."""
    return [await ending(activations, await an_order(house.db)) for _ in range(times)]


async def time_passes(house: House, seconds: float) -> None:
    async with house.db.begin() as connection:
        await connection.execute(
            text(
                "UPDATE provisioning_attempts SET opened_at = opened_at - make_interval(secs => :s),"
                " deadline_at = deadline_at - make_interval(secs => :s), closed_at = closed_at - make_interval(secs => :s)"
            ),
            {"s": seconds},
        )


# --- how many


@pytest.mark.parametrize("caps", [{"hour": 10}, {"day": 10}, {"hour": 10, "day": 500}, {"hour": 500, "day": 10}])
async def test_fifty_calls_at_once_at_two_processes_send_as_many_as_the_cap_allows(
    house: House, process: OpenProcess, supplier: StandIn, caps: dict[str, int]
) -> None:
    other = replace(house, db=type(house.db)(house.db.url, pool_size=8))
    here, there = process(**caps), process(**caps)
    there._db = other.db  # noqa: SLF001 - a pool of its own, as another process has
    orders = [await an_order(house.db) for _ in range(50)]
    endings = await asyncio.gather(*(ending((here, there)[order_id % 2], order_id) for order_id in orders))
    await other.db.close()
    assert Counter(endings) == {"bought": 10, "paused by cap": 40}
    assert supplier.request_count == 10


async def test_past_the_cap_nothing_is_sent_nothing_is_written_and_the_order_stays_pending(
    house: House, process: OpenProcess, supplier: StandIn
) -> None:
    activations = process(hour=2)
    assert await tried(house, activations, 2) == ["bought"] * 2
    order_id = await an_order(house.db)
    with pytest.raises(ProviderPaused) as paused:
        await activations.activate(order_id, actor="key:1")
    assert (paused.value.code, paused.value.http_status, paused.value.by) == ("provider-paused", 503, PausedBy.CAP)
    filed = await on_file(house, order_id)
    assert (filed.profile.status, filed.attempts, filed.audit) == ("pending", [], [])
    assert supplier.request_count == 2


async def test_settled_orders_are_answered_past_the_cap(house: House, process: OpenProcess) -> None:
    activations = process(hour=1)
    order_id = await an_order(house.db)
    assert [await ending(activations, order_id) for _ in range(2)] == ["bought", "replayed"]


@pytest.mark.parametrize(("caps", "window_s"), [({"hour": 2}, AN_HOUR_S), ({"day": 2}, A_DAY_S)])
async def test_the_window_moves_and_retry_after_says_when_there_is_room(
    house: House, process: OpenProcess, caps: dict[str, int], window_s: int
) -> None:
    activations = process(**caps)
    for _ in range(2):
        assert await tried(house, activations) == ["bought"]
        await time_passes(house, 1000)
    with pytest.raises(ProviderPaused) as paused:
        await activations.activate(await an_order(house.db), actor="key:1")
    retry_after_s = paused.value.retry_after_s or 0
    assert window_s - 2000 - 300 < retry_after_s <= window_s - 2000  # 300: however slow the machine is
    await time_passes(house, retry_after_s)
    assert await tried(house, activations, 2) == ["bought", "paused by cap"]


async def test_the_longer_wait_of_the_two_is_told(house: House, process: OpenProcess) -> None:
    activations = process(hour=1, day=1)
    await tried(house, activations)
    with pytest.raises(ProviderPaused) as paused:
        await activations.activate(await an_order(house.db), actor="key:1")
    assert AN_HOUR_S < (paused.value.retry_after_s or 0) <= A_DAY_S


# --- what counts


@pytest.mark.parametrize("outcome", [None, *ATTEMPT_OUTCOMES])
async def test_an_attempt_counts_by_its_outcome(house: House, process: OpenProcess, outcome: str | None) -> None:
    await tried(house, process())
    async with house.db.begin() as connection:
        await connection.execute(
            text(
                "UPDATE provisioning_attempts SET outcome = :outcome,"
                " closed_at = CASE WHEN CAST(:outcome AS text) IS NOT NULL THEN now() END"
            ),
            {"outcome": outcome},
        )
        counted = (await spent(connection, None)).last_hour
    assert counted == (outcome not in {"refused", "not_sent", "held_off"})


@pytest.mark.parametrize("fault", ["close_after", "status_500_before", "half_json"])
async def test_an_unknown_outcome_counts(house: House, process: OpenProcess, supplier: StandIn, fault: str) -> None:
    activations = process(hour=1)
    supplier.script(fault)
    assert await tried(house, activations, 2) == ["activation-outcome-unknown", "paused by cap"]


@pytest.mark.parametrize(
    ("fault", "problem"),
    [("status_422", "provider-refused"), ("status_402", "provider-refused"), ("status_429", "provider-rate-limited")],
)
async def test_what_surely_cost_nothing_does_not_count(
    house: House, process: OpenProcess, supplier: StandIn, fault: str, problem: str
) -> None:
    activations = process(hour=1)
    supplier.script(fault)
    assert await tried(house, activations, 3) == [problem, "bought", "paused by cap"]


async def test_what_was_not_sent_does_not_count(house: House, process: OpenProcess, supplier: StandIn) -> None:
    activations = process(hour=1)
    supplier.refuse()
    assert await tried(house, activations, 2) == ["provider-unreachable"] * 2


async def test_a_call_under_way_counts(house: House, process: OpenProcess, supplier: StandIn) -> None:
    here, there = process(hour=1), process(hour=1)
    supplier.script("hold")
    call = asyncio.create_task(ending(here, await an_order(house.db)))
    await supplier.wait_until_held(1)
    assert await tried(house, there) == ["paused by cap"]
    supplier.release()
    assert await call == "bought"


async def test_a_surplus_esim_counts(house: House, process: OpenProcess, supplier: StandIn) -> None:
    order_id = await an_order(house.db)
    free = process()
    supplier.script("hold")
    late = asyncio.create_task(ending(free, order_id))
    await supplier.wait_until_held(1)
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE provisioning_attempts SET deadline_at = now() - interval '1 second'"))
    assert await sweep(house.db) == 1
    esim_id = (await on_file(house, order_id)).profile.id
    await resolve_not_issued(house.db, house.vault, esim_id, reason="they say so", actor="cli:eva")
    assert await ending(process(), order_id) == "bought"
    supplier.release()
    await late
    assert [attempt.outcome for attempt in (await on_file(house, order_id)).attempts] == ["surplus", "delivered"]
    assert await tried(house, process(hour=2)) == ["paused by cap"]


async def test_a_persons_not_issued_gives_nothing_back(house: House, process: OpenProcess, supplier: StandIn) -> None:
    activations = process(hour=1)
    supplier.script("close_after")
    order_id = await an_order(house.db)
    assert await ending(activations, order_id) == "activation-outcome-unknown"
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE provisioning_attempts SET deadline_at = now() - interval '1 second'"))
    esim_id = (await on_file(house, order_id)).profile.id
    await resolve_not_issued(house.db, house.vault, esim_id, reason="they say so", actor="cli:eva")
    assert await ending(activations, order_id) == "paused by cap"


async def test_a_dry_run_is_neither_counted_nor_stopped(house: House, process: OpenProcess) -> None:
    dry = get_esim_provider(house.settings)
    assert await tried(house, process(hour=1, provider=dry), 3) == ["bought"] * 3
    assert await tried(house, process(hour=1)) == ["bought"]


# --- replays


async def replayed(activations: Activations) -> None:
    """Sends out what is due, and waits for its end."""
    await activations.replay_due()
    await asyncio.gather(*(flight.task for flight in activations._flights.values()), return_exceptions=True)  # noqa: SLF001


async def test_an_order_that_is_sent_again_counts_once(
    house: House, process: OpenProcess, supplier: StandIn, replaying: ConnectedYou
) -> None:
    activations = process(hour=2, provider=replaying)
    supplier.script("close_after")
    order_id = await an_order(house.db)
    assert await ending(activations, order_id) == "activation-outcome-unknown"
    await replayed(activations)
    assert [attempt.outcome for attempt in (await on_file(house, order_id)).attempts] == ["unknown", "delivered"]
    assert await tried(house, activations, 2) == ["bought", "paused by cap"]


async def test_an_order_that_counts_already_is_sent_again_at_the_cap(
    house: House, process: OpenProcess, supplier: StandIn, replaying: ConnectedYou
) -> None:
    activations = process(hour=1, provider=replaying)
    supplier.script("close_after")
    order_id = await an_order(house.db)
    assert await ending(activations, order_id) == "activation-outcome-unknown"
    await replayed(activations)
    assert (await on_file(house, order_id)).profile.status == "provisioned"


async def test_an_order_that_counts_no_longer_needs_room_to_be_sent_again(
    house: House, process: OpenProcess, supplier: StandIn, replaying: ConnectedYou
) -> None:
    activations = process(hour=1, provider=replaying)
    supplier.script("close_after")
    order_id = await an_order(house.db)
    assert await ending(activations, order_id) == "activation-outcome-unknown"
    await time_passes(house, AN_HOUR_S)
    assert await tried(house, activations) == ["bought"]
    await replayed(activations)
    filed = await on_file(house, order_id)
    assert (filed.profile.status, len(filed.attempts), filed.audit[-1]) == ("unknown", 1, "esims.outcome_unknown")
    with pytest.raises(ProviderPaused):
        await activations.replay(order_id, actor="cli:eva")
    await time_passes(house, AN_HOUR_S)
    await replayed(activations)
    assert (await on_file(house, order_id)).profile.status == "provisioned"
    assert await tried(house, activations) == ["paused by cap"]


# --- what it costs


@pytest.mark.parametrize(("caps", "more"), [({}, 0), ({"hour": 100}, 1), ({"hour": 100, "day": 100}, 1)])
async def test_a_cap_costs_an_activation_one_statement_and_none_costs_none(
    house: House, process: OpenProcess, caps: dict[str, int], more: int
) -> None:
    plain = process()
    await tried(house, plain)
    without = await statements_of(house, plain)
    capped = await statements_of(house, process(**caps))
    assert len(capped) == len(without) + more
    assert sum("advisory" in statement for statement in capped) == more


async def test_the_count_looks_at_the_newest_attempts_only(house: House) -> None:
    order_id = await an_order(house.db)
    esim_id = (await on_file(house, order_id)).profile.id
    async with house.db.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO provisioning_attempts (profile_id, provider, is_live, reference, request, requested_by, opened_at,"
                " deadline_at, outcome, closed_at) SELECT :esim_id, 'CONNECTED_YOU', true, 'r', 'sealed', 'system',"
                " now() - age * interval '30 s', now(), 'delivered', now() FROM generate_series(1, 20000) age"
            ),
            {"esim_id": esim_id},
        )
    asked = spend_module._OVER_FOR_S.params(per_hour=10, per_day=50)  # noqa: SLF001 - the count itself
    statement = asked.compile(dialect=house.db._engine.dialect, compile_kwargs={"literal_binds": True})  # noqa: SLF001
    async with house.db.begin() as connection:
        await connection.execute(text("ANALYZE provisioning_attempts"))
        plan = "\n".join(await connection.scalars(text(f"EXPLAIN ANALYZE {statement}")))
    read = [float(found) for found in re.findall(r"provisioning_attempts.*actual time=.* rows=([0-9.]+)", plan)]
    assert "Seq Scan" not in plan
    assert max(read) == 51


async def test_a_process_stopped_in_its_turn_keeps_nobody_for_long(
    house: House, process: OpenProcess, supplier: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spend_module, "_TURN_WITHIN_S", 0.5)
    order_id = await an_order(house.db)
    async with house.db.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(7238441013)"))
        with pytest.raises(ProviderBusy):
            await process(hour=1).activate(order_id, actor="key:1")
    filed = await on_file(house, order_id)
    assert (filed.profile.status, filed.attempts, supplier.request_count) == ("pending", [], 0)


# --- what it tells


def test_caps_hold_where_money_is_spent() -> None:
    settings = Settings(live_esims_per_hour=3)
    assert caps_of(settings, is_live=True) == Caps(3, 0)
    assert caps_of(settings, is_live=False) is None
    assert caps_of(Settings(), is_live=True) is None


@pytest.mark.parametrize(
    ("caps", "text"),
    [(Caps(10, 0), "10 an hour, any number a day"), (Caps(0, 100), "any number an hour, 100 a day")],
)
def test_caps_are_told_in_words(caps: Caps, text: str) -> None:
    assert str(caps) == text


async def test_a_cap_that_is_reached_is_an_error_in_the_log_once(house: House, process: OpenProcess) -> None:
    activations = process(hour=1)
    with capture_logs() as logs:
        await tried(house, activations, 4)
        await time_passes(house, AN_HOUR_S)
        await tried(house, activations, 3)
    told = [line for line in logs if line["event"] == "providers.cap_reached"]
    assert [line["log_level"] for line in told] == ["error", "error"]
    assert (told[0]["provider"], told[0]["cap"]) == ("CONNECTED_YOU", "1 an hour, any number a day")


async def test_what_is_used_up_can_be_asked(house: House, process: OpenProcess) -> None:
    await tried(house, process(), 2)
    await time_passes(house, AN_HOUR_S)
    await tried(house, process())
    async with house.db.read() as connection:
        free, full = await spent(connection, Caps(2, 4)), await spent(connection, Caps(1, 3))
    assert (free.last_hour, free.last_day, free.is_full_until) == (1, 3, None)
    assert full.hour_is_full_until is not None
    assert full.day_is_full_until is not None
    assert full.is_full_until == full.day_is_full_until > full.hour_is_full_until
