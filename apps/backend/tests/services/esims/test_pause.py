"""The switch by which a person stops orders to a provider, and what tells that they are stopped."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from app.errors import PausedBy, ProviderPaused, TribiError
from app.held import hold
from app.house import House
from app.services.esim_providers import EsimProvider, get_esim_provider
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims.activate import Activations
from app.services.esims.pause import Obstacle, Outlook, outlook, pause, resume
from app.services.esims.spend import Caps
from tests.builders import an_order
from tests.services.esims.conftest import MakeActivations, on_file
from tests.stand_in import StandIn


async def paused(house: House, provider: str = "CONNECTED_YOU", reason: str = "their prices doubled") -> int:
    async with house.db.begin() as connection:
        return await pause(connection, provider, reason=reason, actor="cli:eva")


async def resumed(house: House) -> bool:
    async with house.db.begin() as connection:
        return await resume(connection, "CONNECTED_YOU", actor="cli:eva")


async def ending(activations: Activations, order_id: int) -> str:
    try:
        await activations.activate(order_id, actor="key:1")
    except TribiError as error:
        return error.code
    return "bought"


async def trail(house: House) -> list[tuple[object, ...]]:
    async with house.db.read() as connection:
        query = text("SELECT tag, actor, details FROM audit_log WHERE subject_type = 'provider_states' ORDER BY id")
        return [tuple(row) for row in await connection.execute(query)]


async def test_a_paused_provider_is_sent_nothing_by_any_process_until_it_is_resumed(
    house: House, make_activations: MakeActivations, supplier: StandIn
) -> None:
    here, there = make_activations(), make_activations()
    orders = [await an_order(house.db) for _ in range(2)]
    await paused(house)
    assert [await ending(process, order) for process, order in zip((here, there), orders, strict=True)] == [
        "provider-paused"
    ] * 2
    filed = await on_file(house, orders[0])
    assert (filed.profile.status, filed.attempts, filed.audit) == ("pending", [], [])
    assert supplier.request_count == 0
    assert await resumed(house)
    assert [await ending(process, order) for process, order in zip((here, there), orders, strict=True)] == [
        "bought"
    ] * 2


async def test_whoever_is_turned_away_hears_that_it_was_a_person_and_to_ask_again(
    house: House, activations: Activations
) -> None:
    await paused(house)
    with pytest.raises(ProviderPaused) as turned_away:
        await activations.activate(await an_order(house.db), actor="key:1")
    assert (turned_away.value.by, turned_away.value.retry_after_s) == (PausedBy.PERSON, 60)
    assert turned_away.value.public_message.startswith("The shop's operator has paused orders")
    assert "prices" not in turned_away.value.public_message


async def test_calls_under_way_go_on_and_are_counted(house: House, activations: Activations, supplier: StandIn) -> None:
    supplier.script("hold")
    call = asyncio.create_task(ending(activations, await an_order(house.db)))
    await supplier.wait_until_held(1)
    assert await paused(house) == 1
    supplier.release()
    assert await call == "bought"


async def test_another_provider_goes_on(house: House, activations: Activations) -> None:
    await paused(house, "LOCAL")
    assert await ending(activations, await an_order(house.db)) == "bought"


async def test_a_dry_run_is_paused_too_so_that_no_paid_order_gets_a_test_esim(
    house: House, make_activations: MakeActivations
) -> None:
    dry: EsimProvider = get_esim_provider(house.settings)
    await paused(house)
    assert await ending(make_activations(dry), await an_order(house.db)) == "provider-paused"


async def test_unknown_orders_are_not_sent_again_to_a_paused_provider(
    house: House, make_activations: MakeActivations, replaying: ConnectedYou, supplier: StandIn
) -> None:
    activations = make_activations(replaying)
    supplier.script("close_after")
    order_id = await an_order(house.db)
    assert await ending(activations, order_id) == "activation-outcome-unknown"
    await paused(house)
    await activations.replay_due()
    await asyncio.gather(*(flight.task for flight in activations._flights.values()), return_exceptions=True)  # noqa: SLF001
    with pytest.raises(ProviderPaused):
        await activations.replay(order_id, actor="cli:eva")
    assert supplier.request_count == 1


async def test_who_paused_it_and_why_is_on_the_audit_trail_redacted(house: House) -> None:
    assert await paused(house, reason="ask ana@example.com") == 0
    await resumed(house)
    assert await trail(house) == [
        ("providers.paused", "cli:eva", {"provider": "CONNECTED_YOU", "reason": "ask [email]"}),
        ("providers.resumed", "cli:eva", {"provider": "CONNECTED_YOU"}),
    ]


async def test_a_pause_that_is_repeated_says_why_anew_and_keeps_its_beginning(house: House) -> None:
    await paused(house)
    async with house.db.read() as connection:
        [before] = (await outlook(connection, "CONNECTED_YOU", None, None)).obstacles
    await paused(house, reason="their servers burn")
    async with house.db.read() as connection:
        [after] = (await outlook(connection, "CONNECTED_YOU", None, None)).obstacles
    assert before == Obstacle(PausedBy.PERSON, before.since, reason="their prices doubled", actor="cli:eva")
    assert after == replace(before, reason="their servers burn")


async def test_to_resume_what_is_not_paused_changes_nothing(house: House) -> None:
    assert not await resumed(house)
    assert await trail(house) == []


@pytest.fixture
def guarded(make_activations: MakeActivations, house: House) -> Callable[[], Activations]:
    def make() -> Activations:
        values = {"provider_circuit_failures": 1, "live_esims_per_hour": 1, "live_esims_per_day": 5}
        return make_activations(of=replace(house, settings=house.settings.model_copy(update=values)))

    return make


async def test_all_that_keeps_orders_back_is_told(
    house: House, guarded: Callable[[], Activations], supplier: StandIn
) -> None:
    activations = guarded()

    async def told(caps: Caps | None = activations.caps) -> Outlook:
        async with house.db.read() as connection:
            ahead = await outlook(connection, "CONNECTED_YOU", activations.circuit, caps)
        assert ahead.paused_by == {obstacle.by for obstacle in ahead.obstacles}
        return ahead

    async def known(query: str) -> datetime:
        async with house.db.read() as connection:
            found = await connection.scalar(text(query))
        assert isinstance(found, datetime)
        return found

    before = await told()
    assert before.obstacles == ()
    assert before.spent is not None
    assert before.spent.last_hour == 0
    supplier.script("status_500_before")
    await ending(activations, await an_order(house.db))
    await paused(house)
    person = Obstacle(
        PausedBy.PERSON,
        await known("SELECT paused_at FROM provider_states"),
        reason="their prices doubled",
        actor="cli:eva",
    )
    circuit = Obstacle(
        PausedBy.CIRCUIT,
        await known("SELECT circuit_opened_at FROM provider_states"),
        await known("SELECT probe_at FROM provider_states"),
        "activation-outcome-unknown",
    )
    opened_at = await known("SELECT opened_at FROM provisioning_attempts")
    hour = Obstacle(PausedBy.CAP, until=opened_at + timedelta(hours=1), reason="LIVE_ESIMS_PER_HOUR")
    day = Obstacle(PausedBy.CAP, until=opened_at + timedelta(days=1), reason="LIVE_ESIMS_PER_DAY")
    assert (await told()).obstacles == (person, circuit, hour)
    assert (await told(Caps(per_hour=1, per_day=1))).obstacles == (person, circuit, day)
    assert await told(None) == Outlook((person, circuit), None)


async def test_a_persons_pause_uses_no_probe_up(
    house: House, guarded: Callable[[], Activations], supplier: StandIn
) -> None:
    activations = guarded()
    supplier.script("status_500_before")
    await ending(activations, await an_order(house.db))
    await paused(house)
    async with house.db.begin() as connection:
        await connection.execute(text("UPDATE provider_states SET probe_at = now() - interval '1 second'"))
        await connection.execute(text("UPDATE provisioning_attempts SET opened_at = now() - interval '2 hours'"))
    assert await ending(activations, await an_order(house.db)) == "provider-paused"
    await resumed(house)
    assert await ending(activations, await an_order(house.db)) == "bought"


async def test_a_database_that_was_set_back_is_told_first(house: House, activations: Activations) -> None:
    order_id = await an_order(house.db)
    await paused(house)
    await hold(house.db, forgotten=1)
    async with house.db.read() as connection:
        ahead = await outlook(connection, "CONNECTED_YOU", activations.circuit, activations.caps)
        held_since = await connection.scalar(text("SELECT held_since FROM installation"))
    assert [obstacle.by for obstacle in ahead.obstacles] == [PausedBy.HELD, PausedBy.PERSON]
    assert ahead.obstacles[0] == Obstacle(PausedBy.HELD, held_since)
    assert held_since is not None
    with pytest.raises(ProviderPaused) as turned_away:
        await activations.activate(order_id, actor="key:1")
    assert turned_away.value.by is PausedBy.HELD
