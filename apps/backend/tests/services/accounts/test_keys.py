"""Service keys on file: what staff see of them, and that one that is revoked stays so."""

import hashlib
import re
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from app.errors import NotFound
from app.house import House
from app.models import AuditEntry, ServiceKey
from app.models.accounts import SCOPES
from app.services.accounts.keys import KeyListing, Unauthenticated, create_key, hash_of, key_of, list_keys, revoke_key
from tests.builders import a_key

EVA = "cli:eva"


async def listed(house: House) -> list[KeyListing]:
    async with house.db.read() as connection:
        return await list_keys(connection)


async def revoked(house: House, key_id: int) -> KeyListing:
    async with house.db.begin() as connection:
        return await revoke_key(connection, key_id, actor=EVA)


async def created(house: House, name: str, scopes: list[str]) -> tuple[KeyListing, str]:
    async with house.db.begin() as connection:
        return await create_key(connection, name, scopes, actor=EVA)


async def test_a_key_is_kept_as_a_hash_and_who_made_it_is_on_the_audit_trail(house: House) -> None:
    key, secret = await created(house, "  Ana's shop \u20ac ", ["webhooks", "esims", "webhooks"])
    assert re.fullmatch(r"tribi_[\w-]{43}", secret, re.ASCII)  # 32 bytes
    assert (key.name, key.scopes, key.last_used_at, key.revoked_at) == (
        "Ana's shop \u20ac", ("esims", "webhooks"), None, None,
    )  # fmt: skip
    assert [key] == await listed(house)
    columns = (AuditEntry.actor, AuditEntry.tag, AuditEntry.subject_type, AuditEntry.subject_id, AuditEntry.details)
    told = {"name": "Ana's shop \u20ac", "scopes": ["esims", "webhooks"]}
    async with house.db.read() as connection:
        [kept] = await connection.scalars(select(ServiceKey.secret_hash))
        assert [tuple(row) for row in await connection.execute(select(*columns))] == [
            (EVA, "keys.created", "service_keys", key.id, told)
        ]
    assert kept == hashlib.sha256(secret.encode()).digest()


@pytest.mark.parametrize("name", ["n", "n" * 100])
async def test_a_key_has_a_name(house: House, name: str) -> None:
    key, _ = await created(house, name, ["orders"])
    assert key.name == name


@pytest.mark.parametrize("name", ["", "  ", "n" * 101, "two\nlines", "a\x00"])
async def test_a_key_has_a_name_that_can_be_read(house: House, name: str) -> None:
    with pytest.raises(ValueError, match=r"^a key needs a name of 1 to 100 printable characters$"):
        await created(house, name, ["orders"])
    assert await listed(house) == []


@pytest.mark.parametrize("scopes", [[], ["root"], ["orders", "root"]])
async def test_a_key_has_scopes_that_there_are(house: House, scopes: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^a key needs at least one scope out of: \w+(, \w+)+$") as refused:
        await created(house, "a shop", scopes)
    assert str(refused.value).endswith(", ".join(SCOPES))
    assert await listed(house) == []


async def test_keys_are_listed_in_the_order_in_which_they_were_made(house: House) -> None:
    made = [(await a_key(house.db, *scopes))[0] for scopes in (("orders",), ("esims", "webhooks"), ("esims",))]
    await revoked(house, made[0])  # whose row is written anew, behind the others
    found = await listed(house)
    assert [(key.id, key.name, key.scopes) for key in found] == [
        (made[0], "a shop", ("orders",)),
        (made[1], "a shop", ("esims", "webhooks")),
        (made[2], "a shop", ("esims",)),
    ]
    assert [key.revoked_at is None for key in found] == [False, True, True]


async def test_when_a_key_was_last_used_is_listed(house: House) -> None:
    _, secret = await a_key(house.db)
    async with house.db.begin() as connection:
        await key_of(connection, secret)
        now = (await connection.scalars(select(func.now()))).one()
    [key] = await listed(house)
    assert key.last_used_at == now
    assert key.created_at < now


async def test_a_key_that_is_revoked_again_was_revoked_when_it_was_first(house: House) -> None:
    key_id, _ = await a_key(house.db)
    other_id, _ = await a_key(house.db)
    first = (await revoked(house, key_id)).revoked_at
    assert isinstance(first, datetime)
    long_ago = first - timedelta(days=1)
    async with house.db.begin() as connection:
        await connection.execute(update(ServiceKey).where(ServiceKey.id == key_id).values(revoked_at=long_ago))
    assert (await revoked(house, key_id)).revoked_at == long_ago
    assert {key.id: key.revoked_at for key in await listed(house)} == {key_id: long_ago, other_id: None}


async def test_who_revokes_which_key_is_on_the_audit_trail(house: House) -> None:
    key_id, _ = await a_key(house.db)
    await revoked(house, key_id)
    columns = (AuditEntry.actor, AuditEntry.subject_type, AuditEntry.subject_id, AuditEntry.details)
    async with house.db.read() as connection:
        rows = await connection.execute(select(*columns).where(AuditEntry.tag == "keys.revoked"))
        assert [tuple(row) for row in rows] == [(EVA, "service_keys", key_id, {})]


async def test_a_key_that_there_is_not_cannot_be_revoked(house: House) -> None:
    with pytest.raises(NotFound, match=r"^there is no service key 999999$"):
        await revoked(house, 999_999)


def test_what_no_key_looks_like_is_not_looked_for() -> None:
    """A header may be of any length, and hold anything."""
    assert hash_of("x" * 200) == hashlib.sha256(b"x" * 200).digest()
    for secret in ("x" * 201, "tribi_\u00e9"):
        with pytest.raises(Unauthenticated):
            hash_of(secret)
