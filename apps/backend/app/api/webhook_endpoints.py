"""/api/webhook-endpoints: where sellers hear of events, and what became of telling them."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from app.api.access import AnOffice, Id, WebhooksCaller, json_reply
from app.api.bodies import Body, described_body, json_body
from app.api.pages import Cursor, Limit, before_id, cut
from app.api.problems import TooLarge, documented
from app.errors import DatabaseUnavailable, NotFound, ValidationFailed
from app.services.accounts.keys import Forbidden, Unauthenticated
from app.services.webhooks.deliveries import EndpointDisabled, list_deliveries, redeliver
from app.services.webhooks.endpoints import (
    TooManyEndpoints,
    add_endpoint,
    change_endpoint,
    endpoint_by_id,
    list_endpoints,
    remove_endpoint,
    rotate_secret,
)
from app.services.webhooks.events import Kind
from app.shapes import (
    DeliveryShape,
    EndpointShape,
    EndpointWithSecretShape,
    Page,
    delivery_shape,
    endpoint_shape,
    endpoint_with_secret_shape,
)
from app.values.webhook_url import LONGEST

router = APIRouter(prefix="/api/webhook-endpoints", tags=["webhook endpoints"])

_Url = Annotated[
    str,
    Field(
        pattern=r"^https?://[!-~]+$",
        max_length=LONGEST,
        description="https only, to a public address, port 443 or from 1024 on",
        examples=["https://shop.example.com/tribi"],
    ),
]
_Events = Annotated[list[Kind], Field(max_length=50, description="Which ones; empty for all")]


class EndpointIn(Body):
    url: _Url
    events: _Events = Field(default_factory=list)


class EndpointChangeIn(Body):
    """What isn't given, or null, stays as it is."""

    url: _Url | None = None
    events: _Events | None = None
    is_enabled: bool | None = Field(None, description="True: what was pending is sent, and events are heard again.")


_EXAMPLE = {"url": "https://shop.example.com/tribi", "events": ["order.paid", "esim.provisioned"]}
_CHANGE_EXAMPLE = {"events": [], "is_enabled": True}
_COMMON = (Unauthenticated, Forbidden, ValidationFailed, DatabaseUnavailable)


@contextmanager
def _told() -> Iterator[None]:
    """A URL or an event that can't be is the caller's mistake."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        raise ValidationFailed(public_message=f"{text[0].upper()}{text[1:]}.") from None


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=EndpointWithSecretShape,
    summary="Add an endpoint; its secret is shown this once",
    responses=documented(*_COMMON, TooLarge, TooManyEndpoints),
    openapi_extra=described_body(EndpointIn, _EXAMPLE),
)
async def add(caller: WebhooksCaller, office: AnOffice, body: Annotated[EndpointIn, json_body(EndpointIn)]) -> Response:
    house = office.house
    with _told():
        async with house.db.begin() as connection:
            endpoint, secret = await add_endpoint(
                connection,
                house.keyring,
                body.url,
                body.events,
                allow_private=house.settings.webhooks_allow_private,
                actor=caller.actor,
            )
    headers = {"Location": f"/api/webhook-endpoints/{endpoint.id}"}
    return json_reply(endpoint_with_secret_shape(endpoint, secret), HTTPStatus.CREATED, headers)


@router.get(
    "", response_model=Page[EndpointShape], summary="List endpoints, newest first", responses=documented(*_COMMON)
)
async def list_all(caller: WebhooksCaller, office: AnOffice, limit: Limit = 20, cursor: Cursor = None) -> Response:  # noqa: ARG001
    async with office.house.db.read() as connection:
        below = before_id(cursor)
        found = [endpoint for endpoint in await list_endpoints(connection) if endpoint.id < below]
    endpoints, next_cursor = cut(found, limit)
    items = [endpoint_shape(endpoint) for endpoint in endpoints]
    return json_reply(Page[EndpointShape](items=items, next_cursor=next_cursor))


@router.get(
    "/{endpoint_id:id}",
    response_model=EndpointShape,
    summary="Look at an endpoint",
    responses=documented(*_COMMON, NotFound),
)
async def look(caller: WebhooksCaller, office: AnOffice, endpoint_id: Id) -> Response:  # noqa: ARG001
    async with office.house.db.read() as connection:
        return json_reply(endpoint_shape(await endpoint_by_id(connection, endpoint_id)))


@router.patch(
    "/{endpoint_id:id}",
    response_model=EndpointShape,
    summary="Change an endpoint, enable or disable it",
    responses=documented(*_COMMON, NotFound, TooLarge),
    openapi_extra=described_body(EndpointChangeIn, _CHANGE_EXAMPLE),
)
async def change(
    caller: WebhooksCaller,
    office: AnOffice,
    endpoint_id: Id,
    body: Annotated[EndpointChangeIn, json_body(EndpointChangeIn)],
) -> Response:
    house = office.house
    with _told():
        async with house.db.begin() as connection:
            endpoint = await change_endpoint(
                connection,
                endpoint_id,
                url=body.url,
                events=body.events,
                is_enabled=body.is_enabled,
                allow_private=house.settings.webhooks_allow_private,
                actor=caller.actor,
            )
    return json_reply(endpoint_shape(endpoint))


@router.delete(
    "/{endpoint_id:id}",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    summary="Remove an endpoint and the log of its deliveries",
    responses=documented(*_COMMON, NotFound),
)
async def remove(caller: WebhooksCaller, office: AnOffice, endpoint_id: Id) -> Response:
    async with office.house.db.begin() as connection:
        await remove_endpoint(connection, endpoint_id, actor=caller.actor)
    return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Cache-Control": "no-store"})


@router.post(
    "/{endpoint_id:id}/rotate-secret",
    response_model=EndpointWithSecretShape,
    summary="Make a new secret; the former one is valid for another 24 hours",
    responses=documented(*_COMMON, NotFound),
)
async def rotate(caller: WebhooksCaller, office: AnOffice, endpoint_id: Id) -> Response:
    async with office.house.db.begin() as connection:
        endpoint, secret = await rotate_secret(connection, office.house.keyring, endpoint_id, actor=caller.actor)
    return json_reply(endpoint_with_secret_shape(endpoint, secret))


_Status = Annotated[str | None, Query(pattern="^(pending|delivered|failed)$", description="Only those in this status")]


@router.get(
    "/{endpoint_id:id}/deliveries",
    response_model=Page[DeliveryShape],
    summary="List an endpoint's deliveries of the last 30 days, newest first",
    responses=documented(*_COMMON, NotFound),
)
async def deliveries(
    caller: WebhooksCaller,  # noqa: ARG001
    office: AnOffice,
    endpoint_id: Id,
    status: _Status = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    async with office.house.db.read() as connection:
        await endpoint_by_id(connection, endpoint_id)
        found = await list_deliveries(
            connection, endpoint_id=endpoint_id, status=status, before_id=before_id(cursor), limit=limit + 1
        )
    page, next_cursor = cut(found, limit)
    items = [delivery_shape(delivery) for delivery in page]
    return json_reply(Page[DeliveryShape](items=items, next_cursor=next_cursor))


@router.post(
    "/{endpoint_id:id}/deliveries/{delivery_id:id}/redeliver",
    status_code=HTTPStatus.ACCEPTED,
    response_model=DeliveryShape,
    summary="Send an event again, under the same webhook-id",
    responses=documented(*_COMMON, NotFound, EndpointDisabled),
)
async def send_again(caller: WebhooksCaller, office: AnOffice, endpoint_id: Id, delivery_id: Id) -> Response:
    async with office.house.db.begin() as connection:
        delivery = await redeliver(connection, delivery_id, actor=caller.actor, endpoint_id=endpoint_id)
    return json_reply(delivery_shape(delivery), HTTPStatus.ACCEPTED)
