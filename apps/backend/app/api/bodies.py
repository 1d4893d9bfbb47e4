"""Request bodies: read once the caller is known (a dependency, so that nobody learns from a 422 what a 401 hides), and strictly."""

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect

from app.errors import ValidationFailed
from app.values.strict_json import read_strict_json

_MEDIA_TYPE = "application/json"


class Body(BaseModel):
    """What may be sent. Unknown fields are refused, and `"1"` is not `1`."""

    model_config = ConfigDict(strict=True, extra="forbid")


Kind = TypeVar("Kind", bound=Body)


def json_body(kind: type[Kind]) -> Any:  # noqa: ANN401 - FastAPI's own type for what `Depends` gives
    """The dependency that reads a request's body; goes with `described_body` in the OpenAPI document."""

    async def read(request: Request) -> Kind:
        return await read_body(request, kind)

    return Depends(read)


async def read_body(request: Request, kind: type[Kind]) -> Kind:
    """
    Raises:
        ValidationFailed: it isn't JSON.
        RequestValidationError: it isn't what `kind` wants.
    """
    value = await _read_json(request)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise mistakes_in(error, "body") from None


def mistakes_in(error: ValidationError, *where: str) -> RequestValidationError:
    """As FastAPI says what is wrong, for what it hasn't read itself."""
    return RequestValidationError(
        [found | {"loc": (*where, *found["loc"])} for found in error.errors(include_url=False)]
    )


def no_body(otherwise: str) -> Any:  # noqa: ANN401 - as above
    """
    The dependency of an operation that takes none: who sends something expects it to count for something.

    Args:
        otherwise: what to do instead; a sentence for whoever sent one.
    """

    async def refuse(request: Request) -> None:
        if (await _read(request)).strip() not in {b"", b"{}"}:
            raise ValidationFailed(public_message=f"This takes no body. {otherwise}")

    return Depends(refuse)


def described_body(kind: type[Body], example: Mapping[str, Any]) -> dict[str, Any]:
    """An operation's `requestBody`; `app.main` puts the schema among the components."""
    kind.model_validate(example)
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {_MEDIA_TYPE: {"schema": schema, "example": example}}}}


async def _read_json(request: Request) -> Any:  # noqa: ANN401 - any JSON
    """
    Raises:
        ValidationFailed: it isn't JSON as `read_strict_json` wants it.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
        raise ValidationFailed(public_message=f"The body must be JSON, and `Content-Type: {_MEDIA_TYPE}` must say so.")
    body = await _read(request)
    try:
        return read_strict_json(body)
    except ValueError:
        raise ValidationFailed(public_message="The body is not JSON in UTF-8, or names a field twice.") from None


async def _read(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect:
        raise ValidationFailed(public_message="The body ended early.") from None
