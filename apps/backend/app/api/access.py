"""What a route's handler is given: the office that serves it, and who is asking."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from pydantic import BaseModel
from starlette.responses import Response

from app.house import House
from app.services.accounts.keys import Caller, authenticate
from app.services.esim_providers import EsimProvider
from app.services.esims.activate import Activations

GREATEST_ID = 2**63 - 1

Id = Annotated[int, Path(ge=1, le=GREATEST_ID)]

_bearer = HTTPBearer(
    auto_error=False, scheme_name="serviceKey", description="A service key: `tribi keys create NAME --scope orders`"
)


@dataclass(frozen=True)
class Office:
    """The parts of a running server that handlers use."""

    house: House
    provider: EsimProvider
    activations: Activations
    base_url: str


def office_of(request: Request) -> Office:
    office: Office = request.app.state.office
    return office


AnOffice = Annotated[Office, Depends(office_of)]


async def _caller(
    request: Request,
    office: AnOffice,
    _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],  # for the OpenAPI document
) -> Caller:
    async with office.house.db.read() as connection:
        return await authenticate(connection, request.headers.get("authorization"))


ACaller = Annotated[Caller, Depends(_caller)]


def _with_scope(scope: str) -> object:
    async def caller(caller: ACaller) -> Caller:
        caller.require(scope)
        return caller

    return Depends(caller)


OrdersCaller = Annotated[Caller, _with_scope("orders")]
EsimsCaller = Annotated[Caller, _with_scope("esims")]


def json_reply(shape: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A personal answer: nobody on the way may keep it."""
    return Response(
        shape.model_dump_json(), status, {"Cache-Control": "no-store"} | (headers or {}), media_type="application/json"
    )
