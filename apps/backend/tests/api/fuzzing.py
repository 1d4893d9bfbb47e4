"""
Hooks of Schemathesis, see `test_schemathesis.py`: what its schema cannot say about valid requests.

Only what is valid by the schema is touched, and only to become valid by the catalogue and the history too; what is
invalid stays so.
"""

import re
from collections.abc import Callable
from itertools import count
from typing import Any

import schemathesis
from hypothesis import strategies as st

from app.values.country import Country
from app.values.locales import read_locale
from app.values.money import currency_decimals

SKU = "es-5gb-30d"
"""On sale while the tests run."""

_numbers = count(1)
_LIKE_A_SKU = re.compile(r"[!-~]{1,64}")
_LIKE_A_COUNTRY = re.compile(r"[A-Za-z]{2}")
_LIKE_A_CURRENCY = re.compile(r"[A-Za-z]{3}")
_LIKE_A_LOCALE = re.compile(r"(?=.{2,35}\Z)[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*")
_LIKE_A_URL = re.compile(r"https?://[!-~]{1,2000}")
_LIKE_A_KEY = re.compile(r"[!#-~][!-~]{0,254}")

# Addresses that mail systems take, out of those that RFC 5322 allows (`read_email` refuses quoted local parts and the like).
schemathesis.openapi.format(
    "idn-email", st.sampled_from(["ana@example.com", "a.b+c@sub.example.org", "o'brien@example.net", "zoe@exämple.com"])
)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    query, headers = case.query, case.headers
    body: Any = case.body
    if _is_no(Country.read, _LIKE_A_COUNTRY, query.get("country")):
        query["country"] = "ES"  # of all pairs of letters 249 are countries
    if _is_no(read_locale, _LIKE_A_LOCALE, query.get("locale")):
        query["locale"] = "es-ES"
    prices = {"min_price_minor", "max_price_minor"} & query.keys()
    if _is_no(_currency, _LIKE_A_CURRENCY, query.get("currency")) or (prices and "currency" not in query):
        query["currency"] = "EUR"
    for name, value in dict(headers or {}).items():
        if name.lower() == "idempotency-key" and isinstance(value, str) and _LIKE_A_KEY.fullmatch(value):
            headers[name] = f"key-{next(_numbers)}-".ljust(len(value), "~")  # one belongs to one body for ever
    if not isinstance(body, dict):
        return
    customer = body.get("customer")
    if isinstance(customer, dict) and _is_no(read_locale, _LIKE_A_LOCALE, customer.get("locale")):
        customer["locale"] = "es-ES"
    if isinstance(body.get("sku"), str) and _LIKE_A_SKU.fullmatch(body["sku"]):
        body["sku"] = SKU
    if _is_no(_webhook_url, _LIKE_A_URL, body.get("url")):
        body["url"] = "https://seller.invalid/hooks"  # which no name server knows (RFC 6761)
    # A whole number with a point (`1.0`) is an integer to JSON Schema but not to us: beyond 2^53 a program that writes ids
    # so has lost digits, and would activate another order.
    if isinstance(body.get("order_id"), float) and body["order_id"].is_integer():
        body["order_id"] = int(body["order_id"])


def _is_no(read: Callable[[str], object], shape: re.Pattern[str], text: object) -> bool:
    """Whether it has the right shape, and is none all the same."""
    if not isinstance(text, str) or not shape.fullmatch(text):
        return False
    try:
        read(text)
    except ValueError:
        return True
    return False


def _webhook_url(text: str) -> None:
    """Raises for those that are good as well: nothing may be sent to somebody who is there."""
    if text != "https://seller.invalid/hooks":
        raise ValueError


def _currency(text: str) -> int:
    return currency_decimals(text.upper())
