"""The body of a message (Standard Webhooks, "Payload structure"): what, when, and about whom."""

import json
from datetime import UTC, datetime
from typing import Any


def payload(kind: str, occurred_at: datetime, data: dict[str, Any]) -> dict[str, Any]:
    """`occurred_at`: aware; told in UTC."""
    return {"type": kind, "timestamp": rfc3339(occurred_at), "data": data}


def rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def body_of(kind: str, occurred_at: datetime, data: dict[str, Any]) -> str:
    """The same text at every attempt."""
    return json.dumps(payload(kind, occurred_at, data), ensure_ascii=False, separators=(",", ":"))
