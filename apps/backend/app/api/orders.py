"""/api/orders: a storefront places paid orders and looks at them."""

import re
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from app.api.access import ACaller, AnOffice, Id, OrdersCaller, json_reply
from app.api.bodies import Body, described_body, json_body
from app.api.pages import Cursor, Limit, before_id, cut
from app.api.problems import TooLarge, documented
from app.errors import DatabaseUnavailable, NotFound, RateLimited, ValidationFailed
from app.services.accounts.keys import Forbidden, Unauthenticated
from app.services.esim_providers import plan_code_provider
from app.services.esims.esim import esim_by_order, esims_of_orders
from app.services.orders.page_links import page_links
from app.services.orders.place import (
    IdempotencyKeyInProgress,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    NewOrder,
    PlanNotMapped,
    place_order,
)
from app.services.orders.show import order_by_id, orders_before
from app.shapes import OrderShape, Page, order_shape
from app.values.email_address import read_email
from app.values.locales import read_locale
from app.values.person_name import read_person_name

router = APIRouter(prefix="/api/orders", tags=["orders"])

_BARE = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


# What `read_person_name` takes, for the OpenAPI document: something visible, no control characters, one line.
_LETTER, _VISIBLE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]", r"[^\s\x00-\x1f\x7f-\x9f\u2028\u2029]"
_NAME_PATTERN = rf"^\s*{_VISIBLE}({_LETTER}*{_VISIBLE})?\s*$"


# The part before the @ is ASCII: few mail servers take others (RFC 6531).
EMAIL_SCHEMA: JsonDict = {"format": "idn-email", "pattern": r"^[!-~]+@"}


Locale = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$",
        max_length=35,
        description="BCP 47: the customer's language, in which they are written to. One that there are no texts in is taken all "
        "the same; then it is the shop's",
        examples=["pt-BR"],
    ),
    AfterValidator(read_locale),
]


class CustomerIn(Body):
    email: Annotated[
        str,
        Field(max_length=254, examples=["traveller@example.com"], json_schema_extra=EMAIL_SCHEMA),
        AfterValidator(read_email),
    ]
    name: Annotated[
        str,
        Field(max_length=200, examples=["Ana Traveller"], json_schema_extra={"pattern": _NAME_PATTERN}),
        AfterValidator(read_person_name),
    ]
    locale: Locale | None = None


class PaymentIn(Body):
    status: Literal["paid"] = Field(description="Only paid orders are taken for now.")
    reference: str = Field(
        pattern=r"^[ -~]{1,255}$", description="The payment's name at your payment provider", examples=["pay_42"]
    )


class OrderIn(Body):
    sku: str = Field(pattern=r"^[!-~]{1,64}$", description="The plan's SKU", examples=["es-5gb-30d"])
    customer: CustomerIn
    payment: PaymentIn


_EXAMPLE = {
    "sku": "es-5gb-30d",
    "customer": {"email": "traveller@example.com", "name": "Ana Traveller", "locale": "pt-BR"},
    "payment": {"status": "paid", "reference": "pay_42"},
}


async def idempotency_key(request: Request) -> str:
    """
    The `Idempotency-Key` header, bare or as a string of RFC 8941.

    Raises:
        IdempotencyKeyMissing: there is none, or it is empty.
        ValidationFailed: there are two, or it isn't 1 to 255 visible ASCII characters.
    """
    given = request.headers.getlist("idempotency-key")
    text = given[0].strip() if given else ""
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if not key and len(given) <= 1:
        raise IdempotencyKeyMissing
    if len(given) > 1 or not _BARE.fullmatch(key):
        raise ValidationFailed(
            public_message="`Idempotency-Key` must be given once, as 1 to 255 visible ASCII characters."
        )
    return key


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=OrderShape,
    summary="Place a paid order",
    responses={
        201: {
            "description": "The order. A repeated `Idempotency-Key` gets the same order again.",
            "headers": {"Idempotent-Replayed": {"schema": {"type": "string"}, "description": "`true` on a repeat"}},
        },
        **documented(
            IdempotencyKeyMissing,
            Unauthenticated,
            Forbidden,
            IdempotencyKeyInProgress,
            TooLarge,
            ValidationFailed,
            PlanNotMapped,
            IdempotencyKeyReused,
            RateLimited,
            DatabaseUnavailable,
        ),
    },
    openapi_extra={
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": True,
                "description": "Your own name for this order: sending it again can't place a second one.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~][!-~]*$"},
                "example": "cart-4711",
            }
        ]
    }
    | described_body(OrderIn, _EXAMPLE),
)
async def place(
    caller: OrdersCaller,
    office: AnOffice,
    key: Annotated[str, Depends(idempotency_key)],
    body: Annotated[OrderIn, json_body(OrderIn)],
) -> Response:
    settings = office.house.settings
    async with office.house.db.begin() as connection:
        placed = await place_order(
            connection,
            NewOrder(body.sku, body.customer.email, body.customer.name, body.payment.reference, body.customer.locale),
            idempotency_key=key,
            key_id=caller.key_id,
            provider=office.provider.name,
            code_provider=plan_code_provider(settings),
            is_live=office.provider.is_live,
            page_links=page_links(office.house),
        )
        order = await order_by_id(connection, placed.order_id)
        esim = await esim_by_order(connection, office.house.vault, placed.order_id)
    headers = {"Location": f"/api/orders/{order.id}"} | ({"Idempotent-Replayed": "true"} if placed.is_replay else {})
    return json_reply(order_shape(order, esim, office.base_url), HTTPStatus.CREATED, headers)


@router.get(
    "",
    response_model=Page[OrderShape],
    summary="List orders, newest first",
    responses=documented(Unauthenticated, ValidationFailed, RateLimited, DatabaseUnavailable),
)
async def list_orders(caller: ACaller, office: AnOffice, limit: Limit = 20, cursor: Cursor = None) -> Response:
    async with office.house.db.read() as connection:
        found = await orders_before(connection, before_id(cursor), limit + 1, owner=caller.owner)
        orders, next_cursor = cut(found, limit)
        esims = await esims_of_orders(connection, office.house.vault, [order.id for order in orders])
    items = [order_shape(order, esims[order.id], office.base_url) for order in orders]
    return json_reply(Page[OrderShape](items=items, next_cursor=next_cursor))


@router.get(
    "/{order_id:id}",
    response_model=OrderShape,
    summary="Look at an order",
    responses=documented(Unauthenticated, NotFound, ValidationFailed, RateLimited, DatabaseUnavailable),
)
async def get_order(caller: ACaller, office: AnOffice, order_id: Id) -> Response:
    async with office.house.db.read() as connection:
        order = await order_by_id(connection, order_id, owner=caller.owner)
        esim = await esim_by_order(connection, office.house.vault, order_id)
    return json_reply(order_shape(order, esim, office.base_url))
