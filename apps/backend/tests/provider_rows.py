"""Every provider, in each of its modes: a row here, and the contract's tests in test_esim_providers.py are run on it."""

import itertools
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.services.esim_providers import Capabilities, EsimProvider, ProvisionRequest
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esim_providers.connected_you.dry_run import DryRun
from app.services.esim_providers.connected_you.wire import Wire
from app.services.esim_providers.contract import Dedupe, Lookup
from app.services.esim_providers.local import Local
from tests.stand_in.dialect import CONNECTED_YOU, Dialect
from tests.toy_provider import build_toy
from tests.toy_provider.dialect import TOY

API_KEY = "cy-live-7Hq2Kd9fXw41"
PARTNER_ID = "partner-9c41"
EMAIL = "zoë.quillington@example.com"
NAME = "Zoë Quillington"
TLS = ssl.create_default_context()
"""Made once: to load the system's authorities takes longer than most of these tests."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Row:
    """
    Attributes:
        id: in the tests' names; it begins with the provider's name in small letters, so that `-k` selects them.
        name: what ESIM_PROVIDER and the profiles call it.
        at: the provider whose supplier listens at a URL, with a total deadline in seconds.
        capabilities: what it shall say that it can do.
        dialect: how its supplier speaks; None where no HTTP is spoken, and no money spent.
    """

    id: str
    name: str
    at: Callable[[str, float], EsimProvider]
    capabilities: Capabilities
    dialect: Dialect | None = None


_CONNECTED_YOU = Capabilities(needs_plan_code=True, dedupe=Dedupe.UNKNOWN, lookup=Lookup.NONE, has_events=True)

ROWS = (
    Row(
        id="local",
        name="LOCAL",
        at=lambda _url, _timeout_s: Local(),
        capabilities=Capabilities(needs_plan_code=False, dedupe=Dedupe.UNKNOWN, lookup=Lookup.NONE),
    ),
    Row(
        id="connected_you_dry_run",
        name="CONNECTED_YOU",
        at=lambda url, _timeout_s: ConnectedYou(PARTNER_ID, None, url, DryRun()),
        capabilities=_CONNECTED_YOU,
    ),
    Row(
        id="connected_you_live",
        name="CONNECTED_YOU",
        at=lambda url, timeout_s: ConnectedYou(PARTNER_ID, API_KEY, url, Wire(API_KEY, timeout_s, ssl_context=TLS)),
        capabilities=_CONNECTED_YOU,
        dialect=CONNECTED_YOU,
    ),
    Row(
        id="toy",
        name="TOY",
        at=lambda url, timeout_s: build_toy(url, API_KEY, timeout_s, ssl_context=TLS),
        capabilities=Capabilities(needs_plan_code=True, dedupe=Dedupe.UNKNOWN, lookup=Lookup.NONE),
        dialect=TOY,
    ),
)


def an_order(**columns: Any) -> ProvisionRequest:
    """A request that any provider takes."""
    number = columns.get("order_id") or next(_numbers)
    values: dict[str, Any] = {
        "order_id": number,
        "reference": f"order-{number}",
        "plan_code": "CY-ES-5GB",
        "plan_name": "Spain 5GB",
        "country_iso2": "ES",
        "customer_email": EMAIL,
        "customer_name": NAME,
    }
    return ProvisionRequest(**(values | columns))
