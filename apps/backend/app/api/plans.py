"""/api/plans: what is on sale, for anyone."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, BaseModel
from starlette.responses import Response

from app.api.access import AnOffice
from app.api.pages import Cursor, Limit, cut
from app.api.problems import documented
from app.errors import DatabaseUnavailable, NotFound, ValidationFailed
from app.services.catalogue.plans import list_plans, plan_by_sku
from app.services.esim_providers import plan_code_provider
from app.shapes import Page, PlanShape, plan_shape
from app.values.country import Country

router = APIRouter(prefix="/api/plans", tags=["plans"])

_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "Not changed since the `ETag` given in `If-None-Match`"}
}
_ETAG: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"ETag": {"schema": {"type": "string"}, "description": "For `If-None-Match`"}}}
}

CountryCode = Annotated[
    str | None,
    Query(pattern="^[A-Za-z]{2}$", description="ISO 3166-1 alpha-2", examples=["ES"]),
    AfterValidator(lambda text: text and Country.read(text).alpha_2),
]
Sku = Annotated[str, Path(pattern="^[!-~]{1,64}$", description="The plan's SKU", examples=["es-5gb-30d"])]


@router.get(
    "",
    response_model=Page[PlanShape],
    summary="List the plans on sale",
    responses={**_ETAG, **_NOT_MODIFIED, **documented(ValidationFailed, DatabaseUnavailable)},
)
async def get_plans(
    request: Request, office: AnOffice, country: CountryCode = None, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    provider = plan_code_provider(office.house.settings)
    async with office.house.db.read() as connection:
        found = await list_plans(connection, provider, country_iso2=country, after_id=int(cursor or 0), limit=limit + 1)
    page, next_cursor = cut(found, limit)
    return _cacheable(request, Page[PlanShape](items=[plan_shape(plan) for plan in page], next_cursor=next_cursor))


@router.get(
    "/{sku}",
    response_model=PlanShape,
    summary="Look at a plan",
    responses={**_ETAG, **_NOT_MODIFIED, **documented(NotFound, ValidationFailed, DatabaseUnavailable)},
)
async def get_plan(request: Request, office: AnOffice, sku: Sku) -> Response:
    async with office.house.db.read() as connection:
        plan = await plan_by_sku(connection, sku, plan_code_provider(office.house.settings))
    if plan is None:
        raise NotFound
    return _cacheable(request, plan_shape(plan))


def _cacheable(request: Request, shape: BaseModel) -> Response:
    """With a strong ETag (RFC 9110 section 8.8.3); 304 for whoever has it already."""
    body = shape.model_dump_json().encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "public, no-cache"}
    given = ",".join(request.headers.getlist("if-none-match"))
    known = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
