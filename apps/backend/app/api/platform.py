"""/healthz, /readyz and /metrics: for whatever runs and watches Tribi."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.responses import Response

from app import metrics, schema
from app.api.access import Office, UnsettledOffice
from app.errors import DatabaseUnavailable, PausedBy
from app.services.esims.pause import Obstacle, Outlook, outlook
from app.services.esims.stuck import count_stuck
from app.services.news.on_file import count_parked
from app.services.webhooks.standing import count_endpoints
from app.shapes import rfc3339

router = APIRouter(tags=["platform"])


class Health(BaseModel):
    status: Literal["ok"]


class Readiness(BaseModel):
    status: Literal["ready", "not-ready"]
    database: Literal["ok", "away"]
    migrations: str = Field(description="ok, or what is missing", examples=["ok"])
    is_ending: bool | None = Field(
        None, description="It was asked to end and soon stops listening: send nothing more here."
    )
    held_since: str | None = Field(
        None,
        description="Since when nothing is sent and no order taken, because the database was set back: run `tribi recover`.",
    )
    provider: dict[str, Any] = Field(description="Detail only: a provider's trouble doesn't make Tribi unready.")


@router.get("/healthz", response_model=Health, summary="Is the process alive?")
async def healthz() -> Health:
    return Health(status="ok")


@router.get(
    "/readyz",
    response_model=Readiness,
    summary="Can it serve? (database and migrations)",
    responses={503: {"model": Readiness, "description": "Not ready"}},
)
async def readyz(request: Request, office: UnsettledOffice) -> Response:
    readiness = await _readiness(office)
    if request.app.state.stop_by() is not None:
        readiness = readiness.model_copy(update={"status": "not-ready", "is_ending": True})
    return Response(
        readiness.model_dump_json(exclude_none=True),
        200 if readiness.status == "ready" else 503,
        {"Cache-Control": "no-store"},
        media_type="application/json",
    )


async def _readiness(office: Office) -> Readiness:
    provider: dict[str, Any] = {"name": office.provider.name, "is_live": office.provider.is_live}
    try:
        async with office.house.db.read() as connection:
            if (behind := schema.shortfall(await schema.current_revision(connection))) is not None:
                return Readiness(status="not-ready", database="ok", migrations=behind, provider=provider)
            ahead = await _outlook(office, connection)
        await office.house.settle()
    except DatabaseUnavailable:
        return Readiness(status="not-ready", database="away", migrations="unknown", provider=provider)
    provider["paused"] = bool(ahead.obstacles)
    if ahead.obstacles:
        provider |= _shown(ahead.obstacles[0])
    held = next((one.since for one in ahead.obstacles if one.by is PausedBy.HELD), None)
    return Readiness(status="ready", database="ok", migrations="ok", held_since=rfc3339(held), provider=provider)


async def _outlook(office: Office, connection: Any) -> Outlook:  # noqa: ANN401 - AsyncConnection, which is for the services
    activations = office.activations
    return await outlook(connection, office.provider.name, activations.circuit, activations.caps)


def _shown(obstacle: Obstacle) -> dict[str, str | None]:
    """For the platform, which may be anybody: a person's name and reason are for `tribi providers list`."""
    since, until = rfc3339(obstacle.since), rfc3339(obstacle.until)
    more: dict[PausedBy, dict[str, str | None]] = {
        PausedBy.HELD: {"since": since},
        PausedBy.PERSON: {"since": since},
        PausedBy.CIRCUIT: {"since": since, "reason": obstacle.reason, "next_probe": until},
        PausedBy.CAP: {"reason": obstacle.reason, "until": until},
    }
    return {"by": obstacle.by.value} | more[obstacle.by]


@router.get(
    "/metrics",
    response_class=Response,
    summary="For Prometheus",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def prometheus(office: UnsettledOffice) -> Response:
    try:
        _ = office.house.vault  # not before the tables are known to be there
        async with office.house.db.read() as connection:
            stuck = await count_stuck(connection)
            ahead = await _outlook(office, connection)
            parked = await count_parked(connection)
            webhooks = await count_endpoints(connection)
        metrics.PROVIDER_EVENTS_PARKED.set(parked)
        metrics.WEBHOOK_DELIVERIES_PENDING.set(webhooks.pending)
        metrics.WEBHOOK_ENDPOINTS_FAILING.set(webhooks.failing)
        metrics.WEBHOOK_ENDPOINTS_DISABLED.set(webhooks.disabled)
        metrics.HELD.set(PausedBy.HELD in ahead.paused_by)
        metrics.ESIMS_UNKNOWN.set(stuck.unknown)
        metrics.ORDERS_UNFULFILLED.set(stuck.unfulfilled)
        for by in PausedBy:
            metrics.PROVIDER_PAUSED.labels(office.provider.name, by).set(by in ahead.paused_by)
        if ahead.spent is not None and office.activations.caps is not None:
            caps = office.activations.caps
            for window, used, cap in (
                ("hour", ahead.spent.last_hour, caps.per_hour),
                ("day", ahead.spent.last_day, caps.per_day),
            ):
                metrics.LIVE_ESIMS.labels(window).set(used)
                metrics.LIVE_ESIMS_CAP.labels(window).set(cap)
    except DatabaseUnavailable:
        pass  # the last known numbers stand; the database's absence shows elsewhere
    return Response(
        generate_latest(metrics.registry()), headers={"Cache-Control": "no-store"}, media_type=CONTENT_TYPE_LATEST
    )
