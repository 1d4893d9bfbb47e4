"""/api/webhooks: what providers tell of their own accord. Whoever sends is known by it before a byte of the body is read."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from app import metrics
from app.api.access import UnsettledOffice
from app.api.problems import TooLarge, documented
from app.errors import DatabaseUnavailable, NotFound, ValidationFailed
from app.gate import Lane, lane
from app.services.accounts.keys import Unauthenticated
from app.services.esim_providers import EventSource, event_source
from app.services.news.receive import receive_event
from app.settings import Settings

router = APIRouter(prefix="/api/webhooks", tags=["webhooks"])

_Provider = Annotated[str, Path(description="The provider's name in small letters", examples=["connected_you"])]
_BODY = {
    "requestBody": {
        "required": True,
        "description": "In the provider's own form; it is kept to the byte, whatever it is. At most 1 MiB.",
        "content": {
            "application/json": {
                "schema": {},
                "example": {
                    "event_type": "PROFILE_LIFECYCLE",
                    "iccid": "8999900000000000003",
                    "event_timestamp": "2026-11-23T12:00:00Z",
                    "status": "ENABLED",
                },
            }
        },
    }
}

log = structlog.get_logger()


@router.post(
    "/{provider}",
    response_class=Response,
    summary="A provider tells what became of an eSIM",
    description="For the provider alone, which is known by the header and secret that were agreed on with it "
    "(`CONNECTED_YOU_WEBHOOK_HEADER`, `CONNECTED_YOU_WEBHOOK_SECRET`). Stored once, and then worked on in the background.",
    responses={
        200: {"description": "On file, now or since an earlier delivery", "content": {}},
        **documented(Unauthenticated, NotFound, TooLarge, ValidationFailed, DatabaseUnavailable),
    },
    openapi_extra=_BODY,
)
async def take(request: Request, office: UnsettledOffice, provider: _Provider) -> Response:
    # Somebody waits for it, and it is quickly done.
    lane.set(Lane.LOOK)
    source = _source(office.house.settings, provider)
    if (refusal := source.refusal(request.headers.raw)) is not None:
        metrics.PROVIDER_EVENTS_REFUSED.labels(source.name, refusal).inc()
        log.warning("providers.event_refused", provider=source.name, reason=refusal.value)
        raise Unauthenticated(
            public_message="The header that shows the provider is missing or doesn't hold its secret."
        )
    try:
        body = await request.body()
    except ClientDisconnect:
        raise ValidationFailed(public_message="The body ended early.") from None
    is_new = await receive_event(office.house.db, office.house.vault, source, body)
    metrics.PROVIDER_EVENTS.labels(source.name, "stored" if is_new else "duplicate").inc()
    return Response(status_code=200, headers={"Cache-Control": "no-store"})


@router.get(
    "/{provider}",
    response_class=Response,
    summary="Is this the address of a provider's webhooks?",
    description="Answers HEAD as well: some portals look before they send.",
    responses={200: {"description": "It is", "content": {}}, **documented(NotFound, ValidationFailed)},
)
async def look(office: UnsettledOffice, provider: _Provider) -> Response:
    _source(office.house.settings, provider)
    return Response(status_code=200, headers={"Cache-Control": "no-store"})


def _source(settings: Settings, path_name: str) -> EventSource:
    """
    Raises:
        NotFound: there is no provider of this name, or it has no events.
    """
    source = event_source(settings, path_name.upper()) if path_name.islower() else None
    if source is None:
        raise NotFound(public_message="No provider sends its webhooks here.")
    return source
