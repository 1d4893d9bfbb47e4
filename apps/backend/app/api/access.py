"""What a route's handler is given: the office that serves it, and who is asking."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from pydantic import BaseModel
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from app.house import House
from app.services.accounts.keys import Caller, authenticate
from app.services.esim_providers import EsimProvider
from app.services.esims.activate import Activations

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


# Dependencies are async although they wait for nothing: FastAPI sends each of the others through a thread, for a millisecond.
async def _office(request: Request) -> Office:
    office: Office = request.app.state.office
    return office


UnsettledOffice = Annotated[Office, Depends(_office)]
"""Its database may be away or not migrated."""


async def _settled(office: UnsettledOffice) -> Office:
    """
    Raises:
        DatabaseUnavailable: the database hasn't been reached since the start, or isn't migrated.
    """
    _ = office.house.vault
    return office


AnOffice = Annotated[Office, Depends(_settled)]


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
WebhooksCaller = Annotated[Caller, _with_scope("webhooks")]


def json_reply(shape: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A personal answer: nobody on the way may keep it."""
    return Response(
        shape.model_dump_json(), status, {"Cache-Control": "no-store"} | (headers or {}), media_type="application/json"
    )
