"""Events as ConnectedYou publishes them, received and worked on by the acts themselves."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select, text

from app.house import House
from app.models import AuditEntry, EsimProfile
from app.services.esim_providers import event_source
from app.services.news.apply import apply_event
from app.services.news.on_file import EventOnFile, list_events
from app.services.news.receive import receive_event
from tests.builders import an_order, provisioned

_WAITING = text("SELECT id FROM provider_events WHERE outcome IS NULL ORDER BY id")


def lifecycle(iccid: object, status: object, at: object) -> dict[str, Any]:
    """`at`: a time of day of one and the same day, or whatever else shall stand there."""
    return {"event_type": "PROFILE_LIFECYCLE", "iccid": iccid, "event_timestamp": _time(at), "status": status}


def product(iccid: object, status: object, at: object) -> dict[str, Any]:
    return {
        "event_type": "PRODUCT_STATUS_CHANGE",
        "iccid": iccid,
        "event_timestamp": _time(at),
        "product_status": status,
        "product_name": "Spain 5GB",
        "product_id": "636",
    }


def usage(
    iccid: object, used: object, at: object, *, total: object = 5120, percentage: object = 51.27
) -> dict[str, Any]:
    told = {"data_consumed": used, "data_total": total, "percentage_consumed": percentage}
    return {"event_type": "USAGE_ALERT", "iccid": iccid, "event_timestamp": _time(at)} | told


def _time(at: object) -> object:
    return f"2026-11-20T{at}:00Z" if isinstance(at, str) and len(at) == 5 else at


@dataclass
class Ears:
    """The provider's events come in here."""

    house: House

    async def receive(self, event: object) -> bool:
        """Stores one, and leaves it at that. `event`: bytes as they are, all else as JSON."""
        source = event_source(self.house.settings, "CONNECTED_YOU")
        assert source is not None
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        return await receive_event(self.house.db, self.house.vault, source, body)

    async def work(self) -> None:
        """Does the jobs of all that nobody has looked at."""
        async with self.house.db.read() as connection:
            waiting = list(await connection.scalars(_WAITING))
        for event_id in waiting:
            await apply_event(self.house, event_id)

    async def hear(self, *events: object) -> None:
        """Each is received and worked on before the next one comes."""
        for event in events:
            await self.receive(event)
            await self.work()

    async def events(self) -> list[EventOnFile]:
        """In the order in which they came."""
        async with self.house.db.read() as connection:
            return (await list_events(connection))[::-1]

    async def outcomes(self) -> list[str | None]:
        return [event.outcome for event in await self.events()]

    async def sold(self) -> tuple[int, str]:
        """An eSIM that is provisioned: its id and its ICCID."""
        order_id = await an_order(self.house.db)
        [iccid] = await provisioned(self.house.db, self.house.vault, [order_id])
        async with self.house.db.read() as connection:
            esim_id = await connection.scalar(select(EsimProfile.id).where(EsimProfile.order_id == order_id))
        assert esim_id is not None
        return esim_id, iccid

    async def profile(self, esim_id: int) -> Any:
        async with self.house.db.read() as connection:
            return (await connection.execute(select(EsimProfile.__table__).where(EsimProfile.id == esim_id))).one()

    async def states(self, esim_id: int) -> tuple[str | None, str | None, float | None]:
        """Of the handset, of the plan, and the megabytes used."""
        row = await self.profile(esim_id)
        return row.profile_state, row.plan_state, row.data_used_mb

    async def told(self, esim_id: int) -> list[tuple[str, Any]]:
        """What was told on of an eSIM: from the audit trail, by tag and what it became."""
        query = (
            select(AuditEntry.tag, AuditEntry.details)
            .where(AuditEntry.actor == "provider:CONNECTED_YOU", AuditEntry.subject_id == esim_id)
            .order_by(AuditEntry.id)
        )
        async with self.house.db.read() as connection:
            rows = (await connection.execute(query)).all()
        return [(row.tag.removeprefix("esims."), row.details.get("after", row.details.get("used_mb"))) for row in rows]


@pytest.fixture
def ears(house: House) -> Ears:
    return Ears(house)
