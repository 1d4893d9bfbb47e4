"""A database that was set back to an older state: nothing is bought again, and nothing that was bought is lost."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select, text

from app import held
from app.errors import ProviderPaused
from app.held import InstallationHeld
from app.house import House
from app.journal import Entry, Journal, all_of, hash_of
from app.models import AuditEntry
from app.services.esim_providers import SupplierOutcomeUnknown, SupplierUnreachable
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims.activate import Activations
from app.services.esims.errors import OutcomeStillUnknown
from app.services.orders.forgotten import NUMBERS_SKIPPED, Recovery, recover
from app.services.orders.place import NewOrder, Placed, place_order
from app.settings import Settings
from app.vault import Keyring
from tests.builders import a_key, a_plan, an_order
from tests.conftest import KEY, other_database
from tests.services.esims.conftest import MakeActivations, OnFile, on_file
from tests.stand_in import StandIn

CART = NewOrder("es-cart", "ana@example.com", "Ana Traveller", "pay-4711")


class Installation:
    """A house that sends, whose database can be set back."""

    def __init__(self, house: House, url: str) -> None:
        self.house = house
        self.url = url
        self.database = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])

    async def save(self) -> None:
        await self.house.db.close()
        self._copy(self.database, f"{self.database}_saved")

    async def set_back(self) -> None:
        """Everything since `save` is forgotten."""
        await self.house.db.close()
        self._copy(f"{self.database}_saved", self.database)

    def _copy(self, source: str, target: str) -> None:
        with psycopg.connect(other_database(self.url, "postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {target} WITH (FORCE)".encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                [source],
            )
            connection.execute(f"CREATE DATABASE {target} TEMPLATE {source}".encode())

    async def restarted(self) -> House:
        """What another process would have."""
        house = House(self.house.settings, self.house.db, Keyring.parse(KEY))
        await house.settle()
        return house

    @property
    def folder(self) -> Path:
        return self.house.settings.journal_dir / self.house.identity

    async def recover(self) -> Recovery:
        return await recover(self.house.db, all_of(self.folder), actor="cli:eva")

    async def held_since(self) -> Any:
        async with self.house.db.read() as connection:
            return await connection.scalar(held.HELD)

    async def place(self, new: NewOrder = CART, *, key: str = "cart-4711") -> Placed:
        async with self.house.db.begin() as connection:
            return await place_order(
                connection,
                new,
                idempotency_key=key,
                key_id=1,
                provider="CONNECTED_YOU",
                code_provider=None,
                is_live=True,
            )

    async def on_file(self, order_id: int) -> OnFile:
        return await on_file(self.house, order_id)


@pytest.fixture
async def installation(
    settings: Settings, house: House, direct_url: str, tmp_path: Path
) -> AsyncIterator[Installation]:
    live = {"tribi_journal_dir": tmp_path / "journals", "connected_you_dry_run": False}
    house.settings = settings.model_copy(update=live)
    house.journal = Journal(house.settings.journal_dir / house.identity)
    yield (made := Installation(house, direct_url))
    with psycopg.connect(other_database(direct_url, "postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {made.database}_saved WITH (FORCE)".encode())


@pytest.fixture
async def forgotten_id(installation: Installation, activations: Activations) -> int:
    """An order that was bought, and of whose activation the database knows nothing any more."""
    order_id = await an_order(installation.house.db, is_live=True)
    await installation.save()
    await activations.activate(order_id, actor="key:1")
    await installation.set_back()
    return order_id


async def test_what_is_sent_is_in_the_journal(
    installation: Installation, replaying: ConnectedYou, supplier: StandIn, make_activations: MakeActivations
) -> None:
    activations = make_activations(replaying)
    order_id = await an_order(installation.house.db, is_live=True)
    supplier.script("close_after")
    with pytest.raises(SupplierOutcomeUnknown):
        await activations.activate(order_id, actor="key:1")
    await activations.replay(order_id, actor="cli:eva")
    async with installation.house.db.read() as connection:
        query = "SELECT orders.created_at, key FROM orders JOIN idempotency_keys ON order_id = orders.id"
        [(placed_at, key)] = await connection.execute(text(query))
    assert list(all_of(installation.folder)) == [
        Entry(f"order-{order_id}", order_id, sent.id, sent.opened_at, placed_at, "CONNECTED_YOU", hash_of(key))
        for sent in (await installation.on_file(order_id)).attempts
    ]


async def test_it_is_there_before_the_supplier_hears_of_the_order(
    installation: Installation, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_order(installation.house.db, is_live=True)
    supplier.script("hold")
    await activations.activate(order_id, actor="key:1", respond_async=True)
    await supplier.wait_until_held(1)
    assert [entry.order_id for entry in all_of(installation.folder)] == [order_id]
    supplier.release()


async def test_without_its_line_an_order_is_not_sent(
    installation: Installation, activations: Activations, supplier: StandIn
) -> None:
    order_id = await an_order(installation.house.db, is_live=True)
    installation.folder.parent.mkdir(parents=True)
    installation.folder.touch()  # no folder, and so nothing can be written
    with pytest.raises(SupplierUnreachable, match="the intent journal cannot be written to"):
        await activations.activate(order_id, actor="key:1")
    assert (await installation.on_file(order_id)).profile.status == "pending"
    assert supplier.requests == []


async def test_a_process_that_starts_finds_out(
    installation: Installation, forgotten_id: int, supplier: StandIn, make_activations: MakeActivations
) -> None:
    house = await installation.restarted()
    assert await installation.held_since() is not None
    with pytest.raises(InstallationHeld):
        await make_activations(of=house).activate(forgotten_id, actor="key:1")
    assert len(supplier.requests) == 1
    assert (await installation.on_file(forgotten_id)).profile.status == "pending"


async def test_a_process_that_runs_finds_out_before_it_sends_anything_else(
    installation: Installation, forgotten_id: int, activations: Activations, supplier: StandIn
) -> None:
    with pytest.raises(ProviderPaused) as refused:
        await activations.activate(forgotten_id, actor="key:1")
    assert refused.value.retry_after_s
    assert await installation.held_since() is not None
    assert len(supplier.requests) == 1
    columns = (AuditEntry.actor, AuditEntry.subject_type, AuditEntry.subject_id, AuditEntry.details)
    async with installation.house.db.read() as connection:
        held = await connection.execute(select(*columns).where(AuditEntry.tag == "installation.held"))
        assert [tuple(row) for row in held] == [("system", "installation", 1, {"forgotten": 1})]


async def test_a_process_that_runs_and_has_sent_nothing_finds_out(
    installation: Installation, activations: Activations, supplier: StandIn, make_activations: MakeActivations
) -> None:
    order_ids = [await an_order(installation.house.db, is_live=True) for _ in range(2)]
    await installation.save()
    await activations.activate(order_ids[0], actor="key:1")
    other = await installation.restarted()
    await installation.set_back()
    with pytest.raises(InstallationHeld):
        await make_activations(of=other).activate(order_ids[1], actor="key:1")
    assert len(supplier.requests) == 1


async def test_a_process_that_is_to_send_an_order_again_finds_out(
    installation: Installation, replaying: ConnectedYou, supplier: StandIn, make_activations: MakeActivations
) -> None:
    activations = make_activations(replaying)
    unknown_id, other_id = [await an_order(installation.house.db, is_live=True) for _ in range(2)]
    supplier.script("close_after")
    with pytest.raises(SupplierOutcomeUnknown):
        await activations.activate(unknown_id, actor="key:1")
    await installation.save()
    await activations.activate(other_id, actor="key:1")
    await installation.set_back()
    with pytest.raises(InstallationHeld):
        await activations.replay(unknown_id, actor="cli:eva")
    assert await installation.held_since() is not None
    assert len(supplier.requests) == 2


async def test_the_timer_finds_out_too(installation: Installation, forgotten_id: int) -> None:
    await installation.house.look_back()
    assert await installation.held_since() is not None


async def test_a_database_that_knows_it_all_is_not_held(installation: Installation, activations: Activations) -> None:
    order_ids = [await an_order(installation.house.db, is_live=True) for _ in range(2)]
    for order_id in order_ids:
        await activations.activate(order_id, actor="key:1")
    await installation.house.look_back()
    await installation.restarted()
    assert await installation.held_since() is None
    assert (await installation.recover()).found == []


async def test_another_databases_journal_says_nothing_about_this_one(
    installation: Installation, forgotten_id: int
) -> None:
    installation.folder.rename(installation.folder.with_name("another"))
    await installation.restarted()
    assert await installation.held_since() is None


async def test_no_order_is_taken_while_held_and_the_old_ones_are_shown(installation: Installation) -> None:
    await a_plan(installation.house.db, sku=CART.sku)
    await a_key(installation.house.db)
    placed = await installation.place()
    await held.hold(installation.house.db, forgotten=1)
    with pytest.raises(InstallationHeld):
        await installation.place(key="cart-4712")
    assert (await installation.place()).order_id == placed.order_id


async def test_after_recovering_what_was_sent_is_unknown_and_not_sent_again(
    installation: Installation, forgotten_id: int, activations: Activations, supplier: StandIn
) -> None:
    [entry] = all_of(installation.folder)
    await installation.restarted()
    recovery = await installation.recover()
    assert [(found.entry, found.status) for found in recovery.found] == [(entry, "unknown")]
    assert recovery.held_since is not None
    with pytest.raises(OutcomeStillUnknown):
        await activations.activate(forgotten_id, actor="key:1")
    filed = await installation.on_file(forgotten_id)
    [attempt] = filed.attempts
    assert (attempt.id, attempt.opened_at, attempt.outcome) == (entry.attempt_id, entry.opened_at, "unknown")
    assert (attempt.request, attempt.base_url) == (None, None)
    assert filed.audit == ["esims.forgotten"]
    assert len(supplier.requests) == 1


async def test_after_recovering_other_orders_are_sent_again(
    installation: Installation, forgotten_id: int, activations: Activations
) -> None:
    await installation.restarted()
    await installation.recover()
    assert await installation.held_since() is None
    activation = await activations.activate(await an_order(installation.house.db, is_live=True), actor="key:1")
    assert activation.esim.status == "provisioned"


async def test_recovering_twice_adds_nothing(installation: Installation, forgotten_id: int) -> None:
    await installation.recover()
    again = await installation.recover()
    assert (again.found, again.next_order_id) == ([], None)
    assert len((await installation.on_file(forgotten_id)).attempts) == 1


async def test_numbers_that_were_given_before_are_not_given_again(
    installation: Installation, forgotten_id: int
) -> None:
    before = await installation.on_file(forgotten_id)
    await installation.recover()
    order_id = await an_order(installation.house.db, is_live=True)
    after = await installation.on_file(order_id)
    assert order_id > forgotten_id + NUMBERS_SKIPPED
    assert after.profile.id > before.profile.id + NUMBERS_SKIPPED


async def test_an_attempts_number_that_was_given_anew_leaves_both_on_file(
    installation: Installation, forgotten_id: int
) -> None:
    other_id = await an_order(installation.house.db, is_live=True)
    [entry] = all_of(installation.folder)
    async with installation.house.db.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO provisioning_attempts"
                " (id, profile_id, provider, is_live, reference, requested_by, deadline_at, outcome, closed_at)"
                " SELECT :id, id, provider, true, 'order-0', 'system', now(), 'refused', now()"
                " FROM esim_profiles WHERE order_id = :order_id"
            ),
            {"id": entry.attempt_id, "order_id": other_id},
        )
    await installation.recover()
    [theirs] = (await installation.on_file(other_id)).attempts
    [ours] = (await installation.on_file(forgotten_id)).attempts
    assert (theirs.id, theirs.outcome) == (entry.attempt_id, "refused")
    assert (ours.opened_at, ours.outcome) == (entry.opened_at, "unknown")
    await installation.restarted()
    assert await installation.held_since() is None


async def test_an_order_of_the_same_number_that_was_placed_since_is_left_alone(
    installation: Installation, forgotten_id: int
) -> None:
    async with installation.house.db.begin() as connection:
        await connection.execute(text("UPDATE orders SET created_at = now()"))
    [found] = (await installation.recover()).found
    assert found.status is None
    assert (await installation.on_file(forgotten_id)).profile.status == "pending"


async def test_an_order_that_is_gone_comes_back_unknown_under_its_old_number(
    installation: Installation, activations: Activations, supplier: StandIn
) -> None:
    await a_plan(installation.house.db, sku=CART.sku)
    await a_key(installation.house.db)
    await installation.save()
    order_id = (await installation.place()).order_id
    await activations.activate(order_id, actor="key:1")
    await installation.set_back()
    await installation.restarted()
    [found] = (await installation.recover()).found
    assert found.status is None

    assert await installation.place() == Placed(order_id, is_replay=False)
    with pytest.raises(OutcomeStillUnknown):
        await activations.activate(order_id, actor="key:1")
    filed = await installation.on_file(order_id)
    assert (filed.profile.status, [attempt.outcome for attempt in filed.attempts]) == ("unknown", ["unknown"])
    assert len(supplier.requests) == 1
    assert (await installation.place()).is_replay
    assert (await installation.place(key="cart-4712")).order_id > NUMBERS_SKIPPED


async def test_an_esim_that_the_database_still_has_stays_as_it_is(
    installation: Installation, activations: Activations
) -> None:
    order_id = await an_order(installation.house.db, is_live=True)
    esim = (await activations.activate(order_id, actor="key:1")).esim
    async with installation.house.db.begin() as connection:
        await connection.execute(text("DELETE FROM provisioning_attempts"))
    [found] = (await installation.recover()).found
    assert found.status == "provisioned"
    assert (await activations.activate(order_id, actor="key:1")).esim == esim
