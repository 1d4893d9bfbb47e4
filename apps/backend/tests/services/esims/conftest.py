"""Activations of one process, on the test's database, buying at a stand-in for ConnectedYou."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from app.house import House
from app.models import AuditEntry, EsimProfile, ProvisioningAttempt
from app.services.esim_providers import Dedupe, EsimProvider
from app.services.esim_providers.connected_you.client import CAPABILITIES, ConnectedYou
from app.services.esim_providers.connected_you.wire import Wire
from app.services.esims.activate import Activations
from tests.stand_in import StandIn

TIMEOUT_S = 5.0


@pytest.fixture
async def supplier(tmp_path: Path) -> AsyncIterator[StandIn]:
    async with StandIn(ledger=tmp_path / "ledger.jsonl", fsync=False) as stand_in:
        yield stand_in
        assert stand_in.violations == []


@pytest.fixture
async def provider(supplier: StandIn) -> AsyncIterator[ConnectedYou]:
    live = ConnectedYou(
        partner_id="partner-of-tests",
        api_key="key-of-tests",
        base_url=supplier.url,
        line=Wire("key-of-tests", TIMEOUT_S),
    )
    yield live
    await live.close()


@pytest.fixture
def replaying(provider: ConnectedYou, supplier: StandIn) -> ConnectedYou:
    """It gives its word on repeated references, for a day, and keeps it."""
    supplier.dedupe = True
    return replace(provider, capabilities=replace(CAPABILITIES, dedupe=Dedupe.REPLAY, replay_window_s=24 * 3600))


MakeActivations = Callable[..., Activations]


@pytest.fixture
async def make_activations(house: House, provider: ConnectedYou) -> AsyncIterator[MakeActivations]:
    """Each call makes what another process would have."""
    made: list[Activations] = []

    def make(
        by: EsimProvider = provider,
        *,
        of: House = house,
        wait_s: float = 10,
        max_concurrency: int = 100,
        timeout_s: float = TIMEOUT_S,
    ) -> Activations:
        made.append(Activations(of, by, timeout_s=timeout_s, wait_s=wait_s, max_concurrency=max_concurrency))
        return made[-1]

    yield make
    for activations in made:
        await activations.drain(0)


@pytest.fixture
async def activations(make_activations: MakeActivations) -> Activations:
    return make_activations()


@dataclass(frozen=True)
class OnFile:
    """What the database holds about an order."""

    profile: Any
    attempts: list[Any]
    audit: list[str]
    jobs: int


async def on_file(house: House, order_id: int) -> OnFile:
    async with house.db.read() as connection:
        profile = (
            await connection.execute(select(EsimProfile.__table__).where(EsimProfile.order_id == order_id))
        ).one()
        attempts = (
            await connection.execute(
                select(ProvisioningAttempt.__table__)
                .where(ProvisioningAttempt.profile_id == profile.id)
                .order_by(ProvisioningAttempt.id)
            )
        ).all()
        audit = await connection.scalars(
            select(AuditEntry.tag)
            .where(AuditEntry.subject_type == "esim_profiles", AuditEntry.subject_id == profile.id)
            .order_by(AuditEntry.id)
        )
        jobs = await connection.scalar(
            text(
                "SELECT count(*) FROM procrastinate_jobs WHERE args @> jsonb_build_object('esim_id', CAST(:id AS bigint))"
            ),
            {"id": profile.id},
        )
        return OnFile(profile, list(attempts), list(audit), jobs or 0)
