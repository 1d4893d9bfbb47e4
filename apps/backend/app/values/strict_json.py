"""JSON as RFC 8259 wants it between systems, so that two parsers can't read it in two ways."""

import json
from typing import Any


def read_strict_json(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    """
    In UTF-8 without a byte-order mark (section 8.1), names given once (section 4), no NaN or Infinity (section 6).

    Raises:
        ValueError: it is anything else, or nested too deep. The message may repeat what was sent.
    """
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_named_once, parse_constant=_refused)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given twice")
    return found


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
