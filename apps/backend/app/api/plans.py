"""/api/plans: what is on sale, for anyone."""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import AfterValidator, BaseModel, BeforeValidator
from starlette.responses import Response

from app.api.access import AnOffice
from app.api.pages import Cursor, Limit, cut
from app.api.problems import documented
from app.errors import DatabaseUnavailable, NotFound, ValidationFailed
from app.services.catalogue.plans import PlanFilter, list_plans, plan_by_sku
from app.services.esim_providers import plan_code_provider
from app.shapes import Page, PlanShape, plan_shape
from app.values.country import Country
from app.values.locales import preferred_locale, read_locale
from app.values.money import currency_decimals

router = APIRouter(prefix="/api/plans", tags=["plans"])

_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "Not changed since the `ETag` given in `If-None-Match`"}
}
_HEADERS: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "ETag": {"schema": {"type": "string"}, "description": "For `If-None-Match`"},
            "Content-Language": {"schema": {"type": "string"}, "description": "How `price_formatted` is written"},
        }
    }
}


def _currency(text: str) -> str:
    currency_decimals(text.upper())
    return text.upper()


def _true_or_false(text: object) -> object:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text


CountryCode = Annotated[
    str | None,
    Query(
        pattern="^[A-Za-z]{2}$",
        description="ISO 3166-1 alpha-2. Plans for several countries are found by each of them",
        examples=["ES"],
    ),
    AfterValidator(lambda text: text and Country.read(text).alpha_2),
]
CurrencyCode = Annotated[
    str | None,
    Query(pattern="^[A-Za-z]{3}$", description="ISO 4217", examples=["EUR"]),
    AfterValidator(lambda text: text and _currency(text)),
]
Amount = Annotated[int | None, Query(ge=0, le=10**12, description="In minor units; needs `currency`", examples=[2000])]
Megabytes = Annotated[int | None, Query(ge=0, le=10**9, examples=[5120])]
Days = Annotated[int | None, Query(ge=0, le=3650, examples=[30])]
Orderable = Annotated[
    bool | None,
    Query(description="Only those that can be ordered now, or only those that can't"),
    BeforeValidator(_true_or_false),
]
Sku = Annotated[str, Path(pattern="^[!-~]{1,64}$", description="The plan's SKU", examples=["es-5gb-30d"])]


async def _wanted(
    country: CountryCode = None,
    min_data_mb: Megabytes = None,
    max_data_mb: Megabytes = None,
    min_validity_days: Days = None,
    max_validity_days: Days = None,
    currency: CurrencyCode = None,
    min_price_minor: Amount = None,
    max_price_minor: Amount = None,
    is_orderable: Orderable = None,
) -> PlanFilter:
    if currency is None and (min_price_minor is not None or max_price_minor is not None):
        raise ValidationFailed(
            public_message="`min_price_minor` and `max_price_minor` need `currency`: prices in several can't be compared."
        )
    return PlanFilter(
        country_iso2=country,
        min_data_mb=min_data_mb,
        max_data_mb=max_data_mb,
        min_validity_days=min_validity_days,
        max_validity_days=max_validity_days,
        currency=currency,
        min_price_minor=min_price_minor,
        max_price_minor=max_price_minor,
        is_orderable=is_orderable,
    )


@dataclass(frozen=True, slots=True)
class Reader:
    """Whom prices are written for."""

    locale: str
    is_guessed: bool
    """From what the browser said of itself, so that another one may get another answer."""


async def _reader(
    locale: Annotated[
        str | None,
        Query(
            pattern="^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$",
            max_length=35,
            description="How `price_formatted` is written (BCP 47). An unknown region is left out, an unknown language refused",
            examples=["es-ES"],
        ),
        AfterValidator(lambda text: text and read_locale(text)),
    ] = None,
    accept_language: Annotated[
        str | None, Header(description="The same where there is no `locale`; English where it names nothing known")
    ] = None,
) -> Reader:
    if locale is not None:
        return Reader(locale, is_guessed=False)
    return Reader(preferred_locale(accept_language or ""), is_guessed=True)


Wanted = Annotated[PlanFilter, Depends(_wanted)]
AReader = Annotated[Reader, Depends(_reader)]


@router.get(
    "",
    response_model=Page[PlanShape],
    summary="List the plans on sale",
    description="In the order in which they were first imported. Bounds are inclusive.",
    responses={**_HEADERS, **_NOT_MODIFIED, **documented(ValidationFailed, DatabaseUnavailable)},
)
async def get_plans(
    request: Request, office: AnOffice, wanted: Wanted, reader: AReader, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    provider = plan_code_provider(office.house.settings)
    async with office.house.db.read() as connection:
        found = await list_plans(connection, provider, wanted, after_id=int(cursor or 0), limit=limit + 1)
    page, next_cursor = cut(found, limit)
    shapes = [plan_shape(plan, reader.locale) for plan in page]
    return _cacheable(request, Page[PlanShape](items=shapes, next_cursor=next_cursor), reader)


@router.get(
    "/{sku}",
    response_model=PlanShape,
    summary="Look at a plan",
    responses={**_HEADERS, **_NOT_MODIFIED, **documented(NotFound, ValidationFailed, DatabaseUnavailable)},
)
async def get_plan(request: Request, office: AnOffice, sku: Sku, reader: AReader) -> Response:
    async with office.house.db.read() as connection:
        plan = await plan_by_sku(connection, sku, plan_code_provider(office.house.settings))
    if plan is None:
        raise NotFound
    return _cacheable(request, plan_shape(plan, reader.locale), reader)


def _cacheable(request: Request, shape: BaseModel, reader: Reader) -> Response:
    """With a strong ETag (RFC 9110 section 8.8.3); 304 for whoever has it already."""
    body = shape.model_dump_json().encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "public, no-cache", "Content-Language": reader.locale}
    if reader.is_guessed:
        headers["Vary"] = "Accept-Language"
    given = ",".join(request.headers.getlist("if-none-match"))
    known = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
