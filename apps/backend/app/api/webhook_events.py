"""The events that sellers' endpoints hear, as the OpenAPI document's `webhooks` (OpenAPI 3.1, section 4.8.1)."""

import inspect
import re
from typing import Any

from app.services.webhooks.events import KINDS, News, example_of, schema_of

_TOLD_AT = "When Tribi put it on file. What a provider told has the provider's time in `data`."
_TIMESTAMP = "2026-11-23T12:00:00.000Z"
_HEADERS = {
    "webhook-id": (
        "The event's id, the same at every attempt: work on it once.",
        "msg_2f6d0c7d9b3a4b0c8e5f1a2b3c4d5e6f",
    ),
    "webhook-timestamp": ("Of this attempt, in seconds since 1970.", "1795435200"),
    "webhook-signature": (
        "`v1,` and the HMAC-SHA-256 of `{id}.{timestamp}.{body}` in base64; two, a space in between, while a secret is rotated.",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
}
_ANSWERS = {
    "2XX": {"description": "Taken."},
    "410": {"description": "Nothing more shall be sent here: the endpoint is disabled."},
    "default": {"description": "Not taken: it is sent again, ten times in all within three days."},
}


def described_events() -> tuple[dict[str, Any], dict[str, Any]]:
    """The document's `webhooks`, and the schemas that go among its components."""
    webhooks = {kind: {"post": _operation(kind, news)} for kind, news in KINDS.items()}
    return webhooks, {news.__name__: schema_of(news) for news in KINDS.values()}


def _operation(kind: str, news: type[News]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"const": kind},
            "timestamp": {"type": "string", "format": "date-time", "description": _TOLD_AT},
            "data": {"$ref": f"#/components/schemas/{news.__name__}"},
        },
    }
    said = inspect.cleandoc(news.__doc__ or "")
    example = {"type": kind, "timestamp": _TIMESTAMP, "data": example_of(news)}
    return {
        "summary": re.split(r"[.:](?:\s|$)", said)[0],
        "description": said,
        "operationId": f"webhook_{kind.replace('.', '_')}",
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": said,
                "schema": {"type": "string"},
                "example": one,
            }
            for name, (said, one) in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": _ANSWERS,
    }
