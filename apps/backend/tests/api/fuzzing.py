"""
Hooks of Schemathesis, see `test_schemathesis.py`: what its schema cannot say about valid requests.

Only what is valid by the schema is touched, and only to become valid by the catalogue and the history too; what is
invalid stays so.
"""

import re
from itertools import count
from typing import Any

import schemathesis
from hypothesis import strategies as st

from app.values.country import Country

SKU = "es-5gb-30d"
"""On sale while the tests run."""

_numbers = count(1)
_LIKE_A_SKU = re.compile(r"[!-~]{1,64}")
_LIKE_A_COUNTRY = re.compile(r"[A-Za-z]{2}")
_LIKE_A_KEY = re.compile(r"[!#-~][!-~]{0,254}")

# Addresses that mail systems take, out of those that RFC 5322 allows (`read_email` refuses quoted local parts and the like).
schemathesis.openapi.format(
    "idn-email", st.sampled_from(["ana@example.com", "a.b+c@sub.example.org", "o'brien@example.net", "zoe@exämple.com"])
)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    query, headers = case.query, case.headers
    body: Any = case.body
    if _is_no_country(query.get("country")):
        query["country"] = "ES"  # of all pairs of letters 249 are countries
    for name, value in dict(headers or {}).items():
        if name.lower() == "idempotency-key" and isinstance(value, str) and _LIKE_A_KEY.fullmatch(value):
            headers[name] = f"key-{next(_numbers)}-".ljust(len(value), "~")  # one belongs to one body for ever
    if not isinstance(body, dict):
        return
    if isinstance(body.get("sku"), str) and _LIKE_A_SKU.fullmatch(body["sku"]):
        body["sku"] = SKU
    # A whole number with a point (`1.0`) is an integer to JSON Schema but not to us: beyond 2^53 a program that writes ids
    # so has lost digits, and would activate another order.
    if isinstance(body.get("order_id"), float) and body["order_id"].is_integer():
        body["order_id"] = int(body["order_id"])


def _is_no_country(text: object) -> bool:
    if not isinstance(text, str) or not _LIKE_A_COUNTRY.fullmatch(text):
        return False
    try:
        Country.read(text)
    except ValueError:
        return True
    return False
