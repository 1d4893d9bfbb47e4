"""The audit trail: a row in the same transaction as the act."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from structlog.contextvars import bound_contextvars

from app.audit import SYSTEM, Tag, record
from app.db import Database
from app.models import AuditEntry


async def rows(db: Database) -> list[Any]:
    async with db.read() as connection:
        return list((await connection.execute(select(AuditEntry.__table__).order_by(AuditEntry.id))).all())


async def test_who_did_what_to_what_is_on_file(db: Database) -> None:
    async with db.begin() as connection:
        await record(connection, "cli:ana", Tag.ESIM_VIEWED, "esim_profiles", 7, count=1, reason="a call")
    [row] = await rows(db)
    assert (row.actor, row.tag, row.subject_type, row.subject_id) == ("cli:ana", "esims.viewed", "esim_profiles", 7)
    assert row.details == {"count": 1, "reason": "a call"}
    assert abs(row.at - datetime.now(UTC)) < timedelta(hours=1)


async def test_an_act_may_concern_no_single_row_and_have_no_details(db: Database) -> None:
    async with db.begin() as connection:
        await record(connection, SYSTEM, Tag.CATALOGUE_IMPORTED, "plans", None)
    [row] = await rows(db)
    assert (row.subject_id, row.details) == (None, {})


async def test_an_act_that_is_rolled_back_leaves_no_row(db: Database) -> None:
    async def fail() -> None:
        async with db.begin() as connection:
            await record(connection, SYSTEM, Tag.ESIM_PROVISIONED, "esim_profiles", 7)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await rows(db) == []


async def test_the_request_that_caused_it_is_on_file(db: Database) -> None:
    async with db.begin() as connection:
        with bound_contextvars(request_id="req_1"):
            await record(connection, "key:1", Tag.ORDER_PLACED, "orders", 7)
        await record(connection, SYSTEM, Tag.ESIM_PROVISIONED, "esim_profiles", 7)
    assert [row.request_id for row in await rows(db)] == ["req_1", None]


def test_tags_are_a_domain_and_a_fact() -> None:
    for tag in Tag:
        domain, _, fact = tag.value.partition(".")
        assert domain in {
            *("catalogue", "keys", "orders", "esims", "providers", "installation", "secrets", "travellers", "webhooks")
        }
        assert fact.replace("_", "").isalpha()
        assert fact.islower()
