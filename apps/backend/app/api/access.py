"""What a route's handler is given: the office that serves it, and who is asking."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Path, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.bodies import mistakes_in
from app.api.browsers import COOKIE, cookie_of, require_same_origin
from app.api.problems import reply_to
from app.errors import TribiError
from app.house import House
from app.services.accounts.callers import Caller, authenticate, bearer_of
from app.services.accounts.keys import Forbidden, KeyCaller
from app.services.accounts.sessions import TOKEN_PREFIX, SignedIn
from app.services.esim_providers import EsimProvider
from app.services.esims.activate import Activations
from app.services.esims.by_key import ByKey

GREATEST_ID = 2**63 - 1

Id = Annotated[int, Path(ge=1, le=GREATEST_ID)]


class _IdConvertor(Convertor[int]):
    """`{esim_id:id}` in a route: what isn't written as an id (`1.0`, `+1`, `007`, `activate`) is no address of one."""

    regex = "[1-9][0-9]{0,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", _IdConvertor())


class PlainRoute(APIRoute):
    """
    For the handlers of what is asked for most: the shell itself gives them the request, and they see to it. FastAPI's own way to a
    handler and back was a fifth of a read.
    """

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response: Response = await self.endpoint(request)
        except (TribiError, RequestValidationError) as error:
            response = reply_to(error, scope["path"])
        await response(scope, receive, send)


_ID: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=1, le=GREATEST_ID)])

FOR_A_KEY_OR_SESSION: dict[str, Any] = {"security": [{"serviceKey": []}, {"session": []}, {"sessionCookie": []}]}
"""What ACaller says in the OpenAPI document, for routes that see to it themselves."""


def described_id(name: str) -> dict[str, Any]:
    """What Id says in the OpenAPI document, for routes that see to it themselves."""
    schema = {"type": "integer", "maximum": GREATEST_ID, "minimum": 1, "title": name.replace("_", " ").title()}
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": schema}]}


# For the OpenAPI document alone, so none of them raises.
_KEY = HTTPBearer(
    auto_error=False, scheme_name="serviceKey", description="A service key: `tribi keys create NAME --scope orders`"
)
_SESSION = HTTPBearer(
    auto_error=False, scheme_name="session", description="A traveller's session: `POST /api/auth/session`"
)
_COOKIE = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    scheme_name="sessionCookie",
    description="The same session in a browser, with `transport: cookie`. What changes something must come from this very origin.",
)


@dataclass(frozen=True)
class Office:
    """The parts of a running server that handlers use."""

    house: House
    provider: EsimProvider
    activations: Activations
    by_key: ByKey
    base_url: str


# Dependencies are async although they wait for nothing: FastAPI sends each of the others through a thread, for a millisecond.
async def _office(request: Request) -> Office:
    office: Office = request.app.state.office
    return office


UnsettledOffice = Annotated[Office, Depends(_office)]
"""Its database may be away or not migrated."""


def office_of(request: Request) -> Office:
    """
    For the routes that are asked for most, and see to their request themselves: the dependencies cost more than all the rest.

    Raises:
        DatabaseUnavailable: the database hasn't been reached since the start, or isn't migrated.
    """
    office: Office = request.app.state.office
    _ = office.house.vault
    return office


async def _settled(request: Request) -> Office:
    return office_of(request)


AnOffice = Annotated[Office, Depends(_settled)]


def secret_of(request: Request, base_url: str) -> str | None:
    """What a request brings to say who sends it. An `Authorization` header goes before a cookie, whatever stands in it."""
    authorization = request.headers.get("authorization")
    return cookie_of(request, base_url) if authorization is None else bearer_of(authorization)


def id_in(request: Request, name: str) -> int:
    """
    The id that stands in the path (its route has `{name:id}`).

    Raises:
        RequestValidationError: no id is so great.
    """
    try:
        return _ID.validate_python(request.path_params[name])
    except ValidationError as error:
        raise mistakes_in(error, "path", name) from None


def key_in(request: Request, office: Office) -> str | None:
    """
    The secret of a service key, where who asks may be one question with what is asked for; None where `caller_of` has to see to it:
    a session, a cookie, nobody, or keys whose requests are counted.
    """
    secret = bearer_of(request.headers.get("authorization"))
    is_counted = office.house.settings.key_rate_limit > 0
    return None if secret is None or secret.startswith(TOKEN_PREFIX) or is_counted else secret


async def caller_of(request: Request, office: AnOffice) -> Caller:
    """
    Raises:
        Unauthenticated, RateLimited: as of `authenticate`.
        Forbidden: a page of another site has sent it with a traveller's cookie.
    """
    limit = office.house.settings.key_rate_limit
    secret = secret_of(request, office.base_url)
    async with office.house.db.read() as connection:
        caller = await authenticate(connection, office.house.vault, secret, key_rate_limit=limit)
    if "authorization" not in request.headers:
        require_same_origin(request, office.base_url)
    return caller


_ACaller = Annotated[Caller, Depends(caller_of)]


async def _anybody_known(
    caller: _ACaller,
    _key: Annotated[HTTPAuthorizationCredentials | None, Security(_KEY)],
    _session: Annotated[HTTPAuthorizationCredentials | None, Security(_SESSION)],
    _cookie: Annotated[str | None, Security(_COOKIE)],
) -> Caller:
    return caller


ACaller = Annotated[Caller, Depends(_anybody_known)]
"""A service key, or a traveller: `owner` says whose orders they see."""


async def _may_activate(caller: ACaller) -> Caller:
    caller.require("esims")
    return caller


EsimsCaller = Annotated[Caller, Depends(_may_activate)]
"""A service key with the scope `esims`, or a traveller: look whether it is theirs (`owner`)."""


def _with_key(scope: str) -> object:
    async def caller(caller: _ACaller, _: Annotated[HTTPAuthorizationCredentials | None, Security(_KEY)]) -> KeyCaller:
        caller.require(scope)
        assert isinstance(caller, KeyCaller)  # noqa: S101 - no traveller has that scope
        return caller

    return Depends(caller)


OrdersCaller = Annotated[KeyCaller, _with_key("orders")]
WebhooksCaller = Annotated[KeyCaller, _with_key("webhooks")]


async def _signed_in(
    caller: _ACaller,
    _session: Annotated[HTTPAuthorizationCredentials | None, Security(_SESSION)],
    _cookie: Annotated[str | None, Security(_COOKIE)],
) -> SignedIn:
    if not isinstance(caller, SignedIn):
        raise Forbidden(public_message="This is for a traveller's session; a service key has none.")
    return caller


ATraveller = Annotated[SignedIn, Depends(_signed_in)]


def json_reply(shape: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A personal answer: nobody on the way may keep it."""
    return Response(
        shape.model_dump_json(), status, {"Cache-Control": "no-store"} | (headers or {}), media_type="application/json"
    )
