"""Rotation of the encryption key, while activations go on and processes with either order of the keys are about."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text

from app import encryption_keys
from app.db import Database
from app.errors import ConfigurationError
from app.house import House
from app.models import Base, EsimProfile, ProvisioningAttempt
from app.services.esim_providers import get_esim_provider
from app.services.esims.activate import Activations
from app.services.esims.dossier import dossier_of
from app.services.secrets import rotate as rotate_module
from app.services.secrets.rotate import KeyStanding, Progress, Rotation, rotate, standing_of_keys
from app.services.secrets.sealed import SEALED, SealedTable, values_by_key
from app.settings import Settings
from app.vault import Keyring, Place, key_id
from tests.builders import an_order

OLD, NEW = bytes([1]) * 32, bytes([2]) * 32
MANY = 3000


async def start(db: Database, settings: Settings, *keys: bytes) -> House:
    """As a process that starts with these keys."""
    house = House(settings, db, Keyring(keys))
    await house.settle()
    return house


def activations_of(house: House) -> Activations:
    provider = get_esim_provider(house.settings)
    return Activations(house, provider, timeout_s=30, wait_s=60, max_concurrency=8)


async def bought(house: House, times: int = 1) -> list[int]:
    """Ids of eSIMs that this process has activated, in a dry run."""
    activations = activations_of(house)
    return [(await activations.activate(await an_order(house.db), actor="key:1")).esim.id for _ in range(times)]


async def copied(house: House, esim_id: int, times: int) -> None:
    """So many more eSIMs, each with an attempt, sealed for their own places by this process."""
    async with house.db.read() as connection:
        profile = (await connection.execute(select(EsimProfile.__table__).where(EsimProfile.id == esim_id))).one()
        attempt = (
            await connection.execute(
                select(ProvisioningAttempt.__table__).where(ProvisioningAttempt.profile_id == esim_id)
            )
        ).one()
        order = (await connection.execute(text("SELECT * FROM orders WHERE id = :id"), {"id": profile.order_id})).one()
    ids = range(1_000_000, 1_000_000 + times)
    async with house.db.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO orders SELECT (jsonb_populate_record(o, jsonb_build_object('id', i))).*"
                " FROM orders o, generate_series(CAST(:first AS bigint), :last) i WHERE o.id = :id"
            ),
            {"first": ids[0], "last": ids[-1], "id": order.id},
        )
        for row in (profile, attempt):
            table = Base.metadata.tables["esim_profiles" if row is profile else "provisioning_attempts"]
            sealed = [one for one in table.columns if one.info.get("is_sealed")]
            plain = {
                one.name: house.keyring.open(row._mapping[one.name], Place(table.name, one.name, row.id))  # noqa: SLF001 - SQLAlchemy's public name for it
                for one in sealed
                if row._mapping[one.name] is not None  # noqa: SLF001
            }
            rows: list[dict[str, Any]] = []
            for i in ids:
                values = dict(row._mapping) | {"id": i}  # noqa: SLF001
                values |= {name: house.keyring.seal(value, Place(table.name, name, i)) for name, value in plain.items()}
                if table.name == "esim_profiles":
                    values |= {"order_id": i, "activation_code_fingerprint": None, "iccid_fingerprint": None}
                else:
                    values["profile_id"] = i
                rows.append(values)
            await connection.execute(table.insert(), rows)


async def ended(db: Database) -> None:
    """Processes that had the old key in front have ended, more than a minute ago."""
    async with db.begin() as connection:
        await connection.execute(
            text("UPDATE encryption_keys SET in_use_until = now() - interval '1 second' WHERE key_id = :old"),
            {"old": key_id(OLD)},
        )


async def rotated(house: House) -> Rotation:
    """After those processes have ended."""
    await ended(house.db)
    return await rotate(house, actor="cli:eva")


async def by_key(db: Database) -> dict[bytes, int]:
    async with db.read() as connection:
        return await values_by_key(connection)


async def names_on_file(db: Database) -> set[bytes]:
    async with db.read() as connection:
        return {key.key_id for key in await encryption_keys.keys_on_file(connection)}


async def assert_everything_opens(house: House) -> int:
    """Returns how many sealed values there are."""
    count = 0
    async with house.db.read() as connection:
        for sealed in SEALED:
            for row in await connection.execute(select(sealed.table.c.id, *sealed.columns)):
                for one in sealed.columns:
                    value = row._mapping[one.name]  # noqa: SLF001 - as above
                    if value is not None:
                        house.keyring.open(value, Place(sealed.name, one.name, row.id))
                        count += 1
    return count


def test_all_sealed_columns_are_known() -> None:
    """Another one that is declared `Sealed` is here by itself; this only holds what is here already."""
    assert {sealed.name: [one.name for one in sealed.columns] for sealed in SEALED} == {
        "installation": ["fingerprint_key"],
        "esim_profiles": ["activation_code", "iccid", "qr_code", "instructions", "provider_payload", "page_token"],
        "provisioning_attempts": ["request", "response_body"],
        "provider_events": ["body"],
        "webhook_endpoints": ["secret", "previous_secret"],
        "sign_in_codes": ["address", "code"],
    }


async def test_everything_is_sealed_anew_for_its_own_place_and_the_old_key_may_go(
    db: Database, settings: Settings
) -> None:
    before = await start(db, settings, OLD)
    [esim_id] = await bought(before)
    async with db.read() as connection:
        words = await dossier_of(connection, before.vault, esim_id)
    both = await start(db, settings, NEW, OLD)
    rotation = await rotated(both)
    assert rotation.sealed_anew == {"installation": 1, "esim_profiles": 1, "provisioning_attempts": 1}
    assert (rotation.busy, rotation.unreadable, rotation.is_complete) == (0, (), True)
    assert rotation.keys == (
        KeyStanding(key_id(NEW).hex(), 1, sum((await by_key(db)).values()), in_use=True, may_be_removed=False),
        KeyStanding(key_id(OLD).hex(), 2, 0, in_use=False, may_be_removed=True),
    )
    assert set(await by_key(db)) == {key_id(NEW)}
    assert await names_on_file(db) == {key_id(NEW)}
    after = await start(db, settings, NEW)
    async with db.read() as connection:
        assert await dossier_of(connection, after.vault, esim_id) == words
    assert after.vault.fingerprint("iccid", "89") == before.vault.fingerprint("iccid", "89")


async def test_what_was_done_is_on_the_audit_trail(db: Database, settings: Settings) -> None:
    await start(db, settings, OLD)
    await rotated(await start(db, settings, NEW, OLD))
    async with db.read() as connection:
        rows = await connection.execute(
            text("SELECT tag, actor, details FROM audit_log WHERE tag LIKE 'secrets.%' ORDER BY id")
        )
        assert [tuple(row) for row in rows] == [
            ("secrets.key_forgotten", "cli:eva", {"key": key_id(OLD).hex()}),
            ("secrets.rotated", "cli:eva", {"key": key_id(NEW).hex(), "rows": 1}),
        ]


async def test_a_second_run_has_nothing_to_do(db: Database, settings: Settings) -> None:
    await bought(await start(db, settings, OLD))
    both = await start(db, settings, NEW, OLD)
    await rotated(both)
    again = await rotated(both)
    assert (again.sealed_anew, again.is_complete) == ({}, True)


async def test_with_one_key_there_is_nothing_to_do(db: Database, settings: Settings) -> None:
    rotation = await rotate(await start(db, settings, OLD), actor="cli:eva")
    assert (rotation.sealed_anew, rotation.is_complete, len(rotation.keys)) == ({}, True, 1)


# --- at the same time


async def test_thousands_of_rows_are_sealed_anew_while_two_rotations_and_activations_go_on(
    db: Database, settings: Settings
) -> None:
    before = await start(db, settings, OLD)
    [first] = await bought(before)
    await copied(before, first, MANY)
    here, there = await start(db, settings, NEW, OLD), await start(db, settings, NEW, OLD)
    await ended(db)
    seen: list[Progress] = []
    halfway = asyncio.Event()

    def on_progress(progress: Progress) -> None:
        seen.append(replace(progress))
        if progress.done > MANY // 4:
            halfway.set()

    async def buying() -> list[int]:
        await halfway.wait()
        return await bought(before, 3) + await bought(there, 3)  # by a process of either order

    one, two, esims = await asyncio.gather(
        rotate(here, actor="cli:eva", on_progress=on_progress), rotate(there, actor="cli:ben"), buying()
    )
    assert sum(one.sealed_anew.values()) + sum(two.sealed_anew.values()) >= 2 * MANY
    assert seen[0].total >= 2 * MANY
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    final = await rotated(here)
    assert final.is_complete
    assert set(await by_key(db)) == {key_id(NEW)}
    after = await start(db, settings, NEW)
    assert await assert_everything_opens(after) > 5 * MANY
    async with db.read() as connection:
        for esim_id in esims:
            assert (await dossier_of(connection, after.vault, esim_id)).esim.activation_code is not None


async def test_an_answer_that_comes_between_the_look_and_the_swap_is_not_overwritten(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await start(db, settings, OLD)
    [esim_id] = await bought(before)
    place = Place("esim_profiles", "provider_payload", esim_id)
    newer = [before.keyring.seal(b"a newer word", place)]
    swap = SealedTable.swap

    async def swapped_late(self: SealedTable, connection: Any, rows: list[dict[str, Any]]) -> int:
        if self.name == "esim_profiles" and newer:
            async with db.begin() as other:
                await other.execute(
                    text("UPDATE esim_profiles SET provider_payload = :payload"), {"payload": newer.pop()}
                )
        return await swap(self, connection, rows)

    monkeypatch.setattr(SealedTable, "swap", swapped_late)
    assert (await rotated(await start(db, settings, NEW, OLD))).is_complete
    async with db.read() as connection:
        payload = await connection.scalar(select(EsimProfile.provider_payload))
    assert payload is not None
    assert (await start(db, settings, NEW)).keyring.open(payload, place) == b"a newer word"


async def test_a_row_that_somebody_is_at_work_on_is_left_and_told(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotate_module, "_MOST_PASSES", 2)
    await bought(await start(db, settings, OLD), 2)
    both = await start(db, settings, NEW, OLD)
    async with db.begin() as connection:
        await connection.execute(text("SELECT 1 FROM esim_profiles WHERE id = 1 FOR UPDATE"))
        rotation = await rotated(both)
    assert (rotation.busy, rotation.is_complete, rotation.sealed_anew["esim_profiles"]) == (1, False, 1)
    assert key_id(OLD) in await names_on_file(db)
    assert (await rotated(both)).is_complete


async def test_a_rotation_that_was_stopped_goes_on(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotate_module, "_BATCH", 10)
    before = await start(db, settings, OLD)
    [first] = await bought(before)
    await copied(before, first, 100)
    both = await start(db, settings, NEW, OLD)

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done > 50:
            raise Stopped

    with pytest.raises(Stopped):
        await rotate(both, actor="cli:eva", on_progress=stop)
    assert set(await by_key(db)) == {key_id(OLD), key_id(NEW)}
    rotation = await rotated(both)
    assert rotation.is_complete
    assert sum(rotation.sealed_anew.values()) < 203


# --- which key may go


async def test_a_key_stays_while_a_process_seals_with_it(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption_keys, "_SAY_AGAIN_S", 0)
    old_order = await start(db, settings, OLD, NEW)
    await bought(old_order)
    both = await start(db, settings, NEW, OLD)
    told = asyncio.Event()

    async def lives() -> None:
        await told.wait()
        await old_order.keep_key()

    async with asyncio.timeout(120):
        rotation, _ = await asyncio.gather(rotate(both, actor="cli:eva", on_wait=told.set), lives())
    assert not rotation.is_complete
    [_, old] = rotation.keys
    assert (old.in_use, old.values, old.may_be_removed) == (True, 0, False)
    with pytest.raises(ConfigurationError):
        await start(db, settings, NEW)
    await bought(old_order)
    assert (await rotated(both)).is_complete
    assert set(await by_key(db)) == {key_id(NEW)}
    await start(db, settings, NEW)


async def test_it_waits_until_the_last_word_of_an_old_keys_processes_is_old(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption_keys, "IN_USE_S", 1)
    await bought(await start(db, settings, OLD))
    assert (await rotate(await start(db, settings, NEW, OLD), actor="cli:eva")).is_complete


async def test_what_the_last_process_sealed_as_it_ended_is_found(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_order = await start(db, settings, OLD, NEW)
    both = await start(db, settings, NEW, OLD)
    until_retired = rotate_module._until_retired  # noqa: SLF001 - the moment between the two passes

    async def and_a_last_order(*arguments: Any) -> None:
        await until_retired(*arguments)
        await bought(old_order)

    monkeypatch.setattr(rotate_module, "_until_retired", and_a_last_order)
    assert (await rotated(both)).is_complete
    assert set(await by_key(db)) == {key_id(NEW)}


async def test_a_process_that_slept_through_all_of_it_takes_its_key_back_on_file(
    db: Database, settings: Settings
) -> None:
    sleeper = await start(db, settings, OLD, NEW)
    both = await start(db, settings, NEW, OLD)
    assert (await rotated(both)).is_complete
    await bought(sleeper)
    await sleeper.keep_key()
    with pytest.raises(ConfigurationError, match=key_id(OLD).hex()):
        await start(db, settings, NEW)
    assert (await rotated(both)).is_complete
    await start(db, settings, NEW)


async def test_what_no_key_opens_is_told_and_keeps_the_old_key(db: Database, settings: Settings) -> None:
    await bought(await start(db, settings, OLD), 2)
    async with db.begin() as connection:
        await connection.execute(
            text("UPDATE esim_profiles SET iccid = (SELECT iccid FROM esim_profiles WHERE id = 2) WHERE id = 1")
        )
    both = await start(db, settings, NEW, OLD)
    rotation: Rotation = await rotated(both)
    assert rotation.unreadable == (
        "esim_profiles 1: esim_profiles.iccid: the value was sealed for another row, or changed",
    )
    assert not rotation.is_complete
    assert rotation.sealed_anew["esim_profiles"] == 1
    assert key_id(OLD) in await names_on_file(db)


async def test_the_standing_of_keys_tells_all_there_are(db: Database, settings: Settings) -> None:
    await bought(await start(db, settings, OLD))
    third = bytes([3]) * 32
    keys = await standing_of_keys(await start(db, settings, NEW, OLD, third))
    told = [(key.key_id, key.position, key.values > 0, key.may_be_removed) for key in keys]
    assert told == [
        (key_id(NEW).hex(), 1, False, False),
        (key_id(OLD).hex(), 2, True, False),
        (key_id(third).hex(), 3, False, True),
    ]
