"""
The contract as the stand-in enforces it: contracts/connected_you.draft.openapi.yaml, compiled once.

Stricter than a supplier would be (duplicate keys, NaN, a wrong media type), because what a real one silently
accepts today is what it may refuse tomorrow.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

ORDER_PATH = "/partners/orders"
CONTRACT_FILE = Path(__file__).resolve().parents[4] / "contracts" / "connected_you.draft.openapi.yaml"


class NotStrictJsonError(ValueError):
    """The body is something that two parsers may read in two ways."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotStrictJsonError("a key comes twice")
    return found


def _no_constant(name: str) -> None:
    raise NotStrictJsonError(f"{name} is not JSON")


def strict_json(body: bytes) -> object:
    """Raises ValueError (of which UnicodeDecodeError, JSONDecodeError and NotStrictJsonError are kinds)."""
    return json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)


class Contract:
    """The draft contract: what an order must look like, and what a good answer looks like."""

    def __init__(self, file: Path = CONTRACT_FILE) -> None:
        document = yaml.safe_load(file.read_text("utf-8"))
        self._order = self._compiled(document, "PartnerOrder")
        self._provisioned = self._compiled(document, "Provisioned")

    @staticmethod
    def _compiled(document: dict[str, Any], name: str) -> jsonschema.Draft202012Validator:
        schema = document["components"]["schemas"][name]
        jsonschema.Draft202012Validator.check_schema(schema)
        return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())

    def order(self, headers: Mapping[str, str], body: bytes) -> tuple[dict[str, Any] | None, list[str]]:
        """
        The order in a request, and how the request breaks the contract.

        Args:
            headers: names in lower case.

        Returns:
            The order (None unless it is a contract-abiding object) and one sentence per breach.
        """
        breaches = []
        if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            breaches.append(f"content-type is {headers.get('content-type')!r}, not application/json")
        if not headers.get("x-api-key"):
            breaches.append("no x-api-key")
        try:
            order = strict_json(body)
        except (ValueError, RecursionError) as error:
            return None, [*breaches, f"the body is not JSON: {error}"]
        wrong = [f"{error.json_path}: {error.message}" for error in self._order.iter_errors(order)]
        return (order if isinstance(order, dict) and not wrong else None), breaches + wrong

    def answer_breaches(self, answer: object) -> list[str]:
        """How a decoded 200/201 body breaks the contract; empty when it doesn't."""
        return [f"{error.json_path}: {error.message}" for error in self._provisioned.iter_errors(answer)]


@functools.cache
def draft_contract() -> Contract:
    return Contract()
