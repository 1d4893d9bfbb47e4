"""/api/auth: a traveller signs in with a code from an e-mail, and out."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import AfterValidator, Field
from starlette.responses import Response

from app.api.access import AnOffice, ATraveller, json_reply, secret_of
from app.api.bodies import Body, described_body, json_body
from app.api.browsers import client_of, give_cookie, require_same_origin, take_cookie
from app.api.orders import EMAIL_SCHEMA
from app.api.problems import TooLarge, documented
from app.errors import DatabaseUnavailable, RateLimited, ValidationFailed
from app.services.accounts.codes import LIFE, request_code
from app.services.accounts.keys import Forbidden, Unauthenticated
from app.services.accounts.sessions import IDLE, sign_in, sign_out
from app.shapes import Instant, Shape
from app.traveller import wanted_language
from app.values.email_address import read_email

router = APIRouter(prefix="/api/auth", tags=["sign-in"])


class CodeIn(Body):
    email: Annotated[
        str,
        Field(max_length=254, examples=["traveller@example.com"], json_schema_extra=EMAIL_SCHEMA),
        AfterValidator(read_email),
    ]


class CodeRequest(Shape):
    """The same for every address, whether or not it has orders."""

    request: str = Field(
        description="Give it back with the code; only who asked can use the code. A secret.",
        examples=["tribi_request_5cYvJQ2tq0n1n0m8yW3n1o4uQm7d9rXkzVbA6sLcPfE"],
    )
    expires_in_s: int = Field(description="For how long the code can be used", examples=[600])


class SessionIn(Body):
    request: str = Field(
        pattern=r"^tribi_request_[A-Za-z0-9_-]{43}$", description="What `POST /api/auth/code` answered"
    )
    code: str = Field(pattern=r"^[0-9]{6}$", description="Six digits, from the e-mail", examples=["204816"])
    transport: Literal["bearer", "cookie"] = Field(
        "bearer",
        description="bearer: the token is in the answer, for apps and servers. cookie: it is in a cookie alone, which no script "
        "can read, for pages of this origin.",
    )


class SessionShape(Shape):
    token: str | None = Field(
        description="Send it as `Authorization: Bearer …`; null with `cookie`",
        examples=["tribi_session_5cYvJQ2tq0n1n0m8yW3n1o4uQm7d9rXkzVbA6sLcPfE"],
    )
    expires_at: Instant = Field(description="However much it is used")
    idle_limit_s: int = Field(description="It also ends when it isn't used for so long", examples=[604800])


@router.post(
    "/code",
    status_code=HTTPStatus.ACCEPTED,
    response_model=CodeRequest,
    summary="Have a sign-in code sent by e-mail",
    description="The answer is the same for every address. A message goes out only to one that has orders, in the language of "
    "`Accept-Language`. The code has six digits, works once, for ten minutes and five tries.",
    responses={
        202: {"description": "If the address has orders, a code is on its way"},
        **documented(TooLarge, ValidationFailed, RateLimited, DatabaseUnavailable),
    },
    openapi_extra=described_body(CodeIn, {"email": "traveller@example.com"}),
)
async def ask_for_code(request: Request, office: AnOffice, body: Annotated[CodeIn, json_body(CodeIn)]) -> Response:
    language = wanted_language(request.headers.get("accept-language"))
    token = await request_code(office.house, body.email, client=client_of(request), language=language)
    shape = CodeRequest(request=token, expires_in_s=int(LIFE.total_seconds()))
    return json_reply(shape, HTTPStatus.ACCEPTED)


_EXAMPLE = {
    "request": "tribi_request_5cYvJQ2tq0n1n0m8yW3n1o4uQm7d9rXkzVbA6sLcPfE",
    "code": "204816",
    "transport": "bearer",
}


@router.post(
    "/session",
    status_code=HTTPStatus.CREATED,
    response_model=SessionShape,
    summary="Sign in with the code",
    description="A new session each time; one that this request came with is over then. `cookie` needs `Sec-Fetch-Site: "
    "same-origin` or this server's `Origin`, which browsers send by themselves.",
    responses={
        201: {
            "description": "Signed in",
            "headers": {"Set-Cookie": {"schema": {"type": "string"}, "description": "With `cookie` only"}},
        },
        **documented(Unauthenticated, Forbidden, TooLarge, ValidationFailed, RateLimited, DatabaseUnavailable),
    },
    openapi_extra=described_body(SessionIn, _EXAMPLE),
)
async def begin_session(
    request: Request, office: AnOffice, body: Annotated[SessionIn, json_body(SessionIn)]
) -> Response:
    by_cookie = body.transport == "cookie"
    if by_cookie:
        require_same_origin(request, office.base_url)  # or a stranger's page could sign somebody in as somebody else
    new = await sign_in(
        office.house, body.request, body.code, client=client_of(request), former=secret_of(request, office.base_url)
    )
    shape = SessionShape(
        token=None if by_cookie else new.token, expires_at=new.ends_at, idle_limit_s=int(IDLE.total_seconds())
    )
    reply = json_reply(shape, HTTPStatus.CREATED)
    if by_cookie:
        give_cookie(request, office.base_url, reply, new.token, new.ends_at)
    return reply


@router.delete(
    "/session",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Sign out",
    description="Ends this session at once; with `everywhere=true` all sessions of this traveller, on every device.",
    responses={
        204: {"description": "Signed out"},
        **documented(Unauthenticated, Forbidden, ValidationFailed, RateLimited, DatabaseUnavailable),
    },
)
async def end_session(
    request: Request,
    traveller: ATraveller,
    office: AnOffice,
    everywhere: Annotated[bool, Query(description="All sessions of this traveller")] = False,
) -> Response:
    async with office.house.db.begin() as connection:
        await sign_out(connection, traveller, everywhere=everywhere)
    reply = Response(status_code=HTTPStatus.NO_CONTENT, headers={"Cache-Control": "no-store"})
    take_cookie(request, office.base_url, reply)
    return reply
