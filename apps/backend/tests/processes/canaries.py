"""Secrets and personal data that a run used, looked for in what its programs wrote, in every form in which text is written."""

import json
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import quote, quote_plus


def forms(value: str) -> set[str]:
    """The value as it is, in URLs, in JSON and JSON within JSON, as Python's repr, and in base64."""
    escaped = json.dumps(value)[1:-1]
    raw = value.encode()
    return {
        value,
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        escaped,
        json.dumps(escaped)[1:-1],
        repr(value)[1:-1],
        ascii(value)[1:-1],
        repr(raw)[2:-1],
        b64encode(raw).decode().rstrip("="),
    }


def found_in(text: str, values: Iterable[str]) -> list[str]:
    """Which of the values stand in the text, whatever the case of their letters."""
    lowered = text.lower()
    return [value for value in values if any(form.lower() in lowered for form in forms(value))]
