"""Errors as RFC 9457 problem documents, and how they stand in the OpenAPI document."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from structlog.contextvars import get_contextvars

from app.errors import NotFound, RateLimited, TribiError, ValidationFailed

MEDIA_TYPE = "application/problem+json"
_MOST_ERRORS = 50
_PATH_CHARACTERS = "/:@!$&'()*+,;=~"  # RFC 3986 section 3.3
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class TooLarge(TribiError):
    code = "too-large"
    title = "The request is too large"
    meaning = "A request's body may hold 64 KiB at most (a provider's webhook 1 MiB). Send less."
    http_status = 413


class MethodNotAllowed(TribiError):
    code = "method-not-allowed"
    title = "This address takes other methods"
    meaning = "The address exists, but not for this HTTP method; the header `Allow` names those it takes."
    http_status = 405


class InternalError(TribiError):
    code = "internal-error"
    title = "Something went wrong on our side"
    meaning = (
        "This is a bug of Tribi's; the operator finds it in the log under the request id. If the request was an activation, "
        "look at the eSIM before anything else: the work may have gone on."
    )
    http_status = 500


_BY_STATUS: dict[int, type[TribiError]] = {404: NotFound, 405: MethodNotAllowed, 413: TooLarge, 429: RateLimited}


class Mistake(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(
        description="Where: a JSON pointer into the body, or the parameter", examples=["/customer/email"]
    )
    detail: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="A relative reference to a readable page", examples=["/problems/not-found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(description="What happened and what to do, for people")
    instance: str = Field(description="The path that was asked for", examples=["/api/esims/1"])
    request_id: str = Field(description="Under which the operator finds this in the log")
    retryable: bool = Field(description="Whether the same request may succeed if it is sent again")
    errors: list[Mistake] | None = Field(default=None, description="For `validation-failed`: each mistake")


def problem_reply(
    error: TribiError, path: str, *, headers: dict[str, str] | None = None, mistakes: list[Mistake] | None = None
) -> Response:
    problem = Problem(
        type=f"/problems/{error.code}",
        title=error.title,
        status=error.http_status,
        detail=error.public_message,
        instance=quote(path, safe=_PATH_CHARACTERS),
        request_id=get_contextvars().get("request_id", ""),
        retryable=error.retryable,
        errors=mistakes,
    )
    all_headers = {"Cache-Control": "no-store"} | (headers or {})
    if error.retry_after_s is not None:
        all_headers["Retry-After"] = str(error.retry_after_s)
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        all_headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(
        problem.model_dump(exclude_none=True), status_code=error.http_status, headers=all_headers, media_type=MEDIA_TYPE
    )


def reply_to(error: TribiError | RequestValidationError, path: str) -> Response:
    """What is told of an error that a handler may raise."""
    if isinstance(error, TribiError):
        return problem_reply(error, path)
    return problem_reply(
        ValidationFailed(), path, mistakes=[_mistake(found) for found in error.errors()[:_MOST_ERRORS]]
    )


def install(app: FastAPI) -> None:
    """Every error leaves as a problem document; none brings a stack trace."""

    @app.exception_handler(TribiError)
    @app.exception_handler(RequestValidationError)
    async def expected(request: Request, error: TribiError | RequestValidationError) -> Response:
        return reply_to(error, request.scope["path"])

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods_at(app, request.scope["path"]))
        kind = _BY_STATUS.get(error.status_code, InternalError)
        return problem_reply(kind(), request.scope["path"], headers=headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the shell logs it
        return problem_reply(InternalError(), request.scope["path"])


def _methods_at(app: FastAPI, path: str) -> list[str]:
    """Every method that some route takes at a path; the framework names those of the first route only."""
    scopes = {method: {"type": "http", "path": path, "method": method, "headers": []} for method in _METHODS}
    taken = [
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] is Match.FULL for route in app.router.routes)
    ]
    return [*taken, "HEAD"] if "GET" in taken else taken


def _mistake(found: dict[str, Any]) -> Mistake:
    """Pydantic's finding without the value that it is about: that may be a secret in the wrong place."""
    location, *path = found["loc"]
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in path]  # RFC 6901 section 3
    pointer = "".join(f"/{part}" for part in parts) if location == "body" else f"{location}: {'.'.join(map(str, path))}"
    # A field's name may be half a character (RFC 8259 section 8.2), which no reply can hold.
    writable = pointer.encode("utf-8", "replace").decode()
    return Mistake(pointer=writable, detail=str(found["msg"]).removeprefix("Value error, "))


def documented(*kinds: type[TribiError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses for the errors that a route may give."""
    by_status: dict[int, list[type[TribiError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.http_status, []).append(kind)
    return {
        status: {
            "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in same),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {kind.code: {"value": _example(kind)} for kind in same},
                }
            },
        }
        for status, same in sorted(by_status.items())
    }


def _example(kind: type[TribiError]) -> dict[str, Any]:
    return {
        "type": f"/problems/{kind.code}",
        "title": kind.title,
        "status": kind.http_status,
        "detail": kind.meaning,
        "instance": "/api/esims/activate",
        "request_id": "req_7Zr3kQ9dVtGm",
        "retryable": kind.retryable,
    }
