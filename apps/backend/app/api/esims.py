"""/api/esims: activating an order's eSIM and looking at it."""

from http import HTTPStatus
from typing import Annotated, Protocol

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.responses import Response

from app.api.access import (
    FOR_A_KEY_OR_SESSION,
    GREATEST_ID,
    ACaller,
    AnOffice,
    EsimsCaller,
    Id,
    Office,
    PlainRoute,
    caller_of,
    described_id,
    id_in,
    json_reply,
    key_in,
    office_of,
)
from app.api.bodies import Body, described_body, no_body, read_body
from app.api.pages import Cursor, Limit, before_id, cut
from app.api.problems import TooLarge, documented
from app.errors import DatabaseUnavailable, NotFound, ProviderPaused, RateLimited, ValidationFailed
from app.qr import QrImpossible, qr_png, qr_svg
from app.services.accounts.callers import Caller
from app.services.accounts.keys import Forbidden, Unauthenticated
from app.services.accounts.sessions import SignedIn
from app.services.esim_providers import (
    SupplierNotConfigured,
    SupplierOutcomeUnknown,
    SupplierRateLimited,
    SupplierRefused,
    SupplierUnreachable,
)
from app.services.esims.errors import OrderNotPaid, OutcomeStillUnknown, ProviderBusy, ProviderOnHold
from app.services.esims.esim import Esim, esim_by_id, list_esims
from app.services.esims.intent import Looked
from app.services.esims.own import check_own_activation
from app.services.esims.resend import MOST_A_DAY, NotProvisioned, resend_instructions
from app.shapes import EsimShape, Page, ResendShape, esim_shape

router = APIRouter(prefix="/api/esims", tags=["esims"])
plain = APIRouter(prefix="/api/esims", tags=["esims"], route_class=PlainRoute)

_RETRY_AFTER_S = 2
"""When to look again at an activation that is under way."""


class ActivateIn(Body):
    order_id: int = Field(ge=1, le=GREATEST_ID, examples=[1])


@plain.post(
    "/activate",
    status_code=HTTPStatus.CREATED,
    response_model=EsimShape,
    summary="Activate an order's eSIM, once",
    description="Buys the order's eSIM from the provider. Calling again, at the same time or later, buys nothing and returns "
    "the same eSIM. The header `Prefer: respond-async` (RFC 7240) asks for a 202 as soon as the intent is on file.",
    responses={
        201: {"description": "Provisioned by this call"},
        200: {
            "model": EsimShape,
            "description": "Provisioned before, or by another call",
            "headers": {"Idempotent-Replayed": {"schema": {"type": "string"}, "description": "Always `true`"}},
        },
        202: {
            "model": EsimShape,
            "description": "Under way; look again at `Location` after `Retry-After` seconds",
            "headers": {
                "Location": {"schema": {"type": "string"}, "description": "The eSIM"},
                "Retry-After": {"schema": {"type": "string"}, "description": "Seconds"},
            },
        },
        **documented(
            Unauthenticated,
            Forbidden,
            NotFound,
            OrderNotPaid,
            OutcomeStillUnknown,
            TooLarge,
            ValidationFailed,
            RateLimited,
            SupplierNotConfigured,
            SupplierUnreachable,
            SupplierRateLimited,
            SupplierRefused,
            SupplierOutcomeUnknown,
            ProviderBusy,
            ProviderOnHold,
            ProviderPaused,
            DatabaseUnavailable,
        ),
    },
    openapi_extra=described_body(ActivateIn, {"order_id": 1}) | FOR_A_KEY_OR_SESSION,
)
async def activate(request: Request) -> Response:
    office = office_of(request)
    secret = key_in(request, office)
    try:
        order_id = (await read_body(request, ActivateIn)).order_id
    except (RequestValidationError, ValidationFailed):
        (await caller_of(request, office)).require("esims")  # nobody learns from a 422 what a 401 hides
        raise
    if secret is not None:
        key, found = await office.by_key.standing(secret, order_id)
        return await _activated(request, office, key, order_id, found)
    caller = await caller_of(request, office)
    caller.require("esims")
    if isinstance(caller, SignedIn):
        await check_own_activation(office.house, caller, order_id)
    return await _activated(request, office, caller, order_id, None)


def _replayed(esim: Esim, office: Office) -> Response:
    return json_reply(esim_shape(esim, office.base_url), HTTPStatus.OK, {"Idempotent-Replayed": "true"})


async def _activated(
    request: Request, office: Office, caller: Caller, order_id: int, looked: Esim | Looked | None
) -> Response:
    given = ",".join(request.headers.getlist("prefer"))
    wishes = {wish.partition(";")[0].strip().lower() for wish in given.split(",")}
    respond_async = "respond-async" in wishes
    activation = await office.activations.activate(
        order_id, actor=caller.actor, respond_async=respond_async, looked=looked
    )
    esim = activation.esim
    shape = esim_shape(esim, office.base_url)
    location = {"Location": f"/api/esims/{esim.id}"}
    if not activation.is_done:
        applied = {"Preference-Applied": "respond-async"} if respond_async else {}
        return json_reply(shape, HTTPStatus.ACCEPTED, location | applied | {"Retry-After": str(_RETRY_AFTER_S)})
    if activation.is_first:
        return json_reply(shape, HTTPStatus.CREATED, location)
    return _replayed(esim, office)


@router.get(
    "",
    response_model=Page[EsimShape],
    summary="List eSIMs, newest first",
    responses=documented(Unauthenticated, ValidationFailed, RateLimited, DatabaseUnavailable),
)
async def list_all(caller: ACaller, office: AnOffice, limit: Limit = 20, cursor: Cursor = None) -> Response:
    async with office.house.db.read() as connection:
        found = await list_esims(
            connection, office.house.vault, before_id=before_id(cursor), limit=limit + 1, owner=caller.owner
        )
    esims, next_cursor = cut(found, limit)
    items = [esim_shape(esim, office.base_url) for esim in esims]
    return json_reply(Page[EsimShape](items=items, next_cursor=next_cursor))


@plain.get(
    "/{esim_id:id}",
    response_model=EsimShape,
    summary="Look at an eSIM",
    responses=documented(Unauthenticated, NotFound, ValidationFailed, RateLimited, DatabaseUnavailable),
    openapi_extra=described_id("esim_id") | FOR_A_KEY_OR_SESSION,
)
async def get_esim(request: Request) -> Response:
    office = office_of(request)
    secret = key_in(request, office)
    try:
        esim_id = id_in(request, "esim_id")
    except RequestValidationError:
        await caller_of(request, office)  # nobody learns from a 422 what a 401 hides
        raise
    if secret is not None:
        esim = await office.by_key.esim(secret, esim_id)
    else:
        esim = await _esim(office, await caller_of(request, office), esim_id)
    return json_reply(esim_shape(esim, office.base_url))


@router.get(
    "/{esim_id:id}/qr.png",
    response_class=Response,
    summary="The eSIM's QR code as PNG",
    responses={
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
        **documented(Unauthenticated, NotFound, ValidationFailed, RateLimited, DatabaseUnavailable),
    },
)
async def get_qr_png(caller: ACaller, office: AnOffice, esim_id: Id) -> Response:
    return _picture(qr_png, await _esim(office, caller, esim_id), "image/png")


@router.get(
    "/{esim_id:id}/qr.svg",
    response_class=Response,
    summary="The eSIM's QR code as SVG",
    responses={
        200: {"content": {"image/svg+xml": {"schema": {"type": "string"}}}},
        **documented(Unauthenticated, NotFound, ValidationFailed, RateLimited, DatabaseUnavailable),
    },
)
async def get_qr_svg(caller: ACaller, office: AnOffice, esim_id: Id) -> Response:
    return _picture(qr_svg, await _esim(office, caller, esim_id), "image/svg+xml")


@router.post(
    "/{esim_id:id}/resend",
    status_code=HTTPStatus.ACCEPTED,
    response_model=ResendShape,
    summary="Send the traveller the message with QR, link and steps again",
    description=f"A new message to the order's address, in the customer's language; a job sends it. At most {MOST_A_DAY} "
    "of an eSIM within 24 hours.",
    responses={
        202: {"description": "Written down; it is sent within moments"},
        **documented(
            Unauthenticated, Forbidden, NotFound, NotProvisioned, ValidationFailed, RateLimited, DatabaseUnavailable
        ),
    },
)
async def resend(
    caller: EsimsCaller,
    office: AnOffice,
    esim_id: Id,
    _: Annotated[
        None, no_body("The message goes to the order's address; staff correct that: `tribi esims resend --to`.")
    ],
) -> Response:
    await _esim(office, caller, esim_id)  # another's looks like one that doesn't exist
    written = await resend_instructions(office.house, esim_id, actor=caller.actor)
    return json_reply(
        ResendShape(esim_id=esim_id, mail_id=written.mail_id, left_today=written.left_today), HTTPStatus.ACCEPTED
    )


async def _esim(office: Office, caller: Caller, esim_id: int) -> Esim:
    async with office.house.db.read() as connection:
        return await esim_by_id(connection, office.house.vault, esim_id, owner=caller.owner)


class _Drawing(Protocol):
    def __call__(self, text: str, *, label: str | None) -> bytes: ...


def _picture(draw: _Drawing, esim: Esim, media_type: str) -> Response:
    if esim.qr_code is None:
        raise NotFound(public_message="This eSIM isn't provisioned, so there is no QR code yet.")
    try:
        data = draw(esim.qr_code, label=None if esim.is_live else "TEST")
    except QrImpossible:
        raise NotFound(public_message="This eSIM's code is too long for a QR code; it can only be typed in.") from None
    return Response(data, headers={"Cache-Control": "no-store"}, media_type=media_type)
