"""A supplier that there isn't, added as docs/providers/adding_one.md says: so the recipe is known to work."""

import ssl

from app.services.esim_providers.one_post import OnePost
from tests.toy_provider.client import Toy


def build_toy(url: str, api_key: str | None, timeout_s: float, *, ssl_context: ssl.SSLContext | None = None) -> Toy:
    """A real provider takes its settings here. Missing credentials are reported by each activation, not here."""
    return Toy(api_key, url, OnePost("Toy", timeout_s, ssl_context=ssl_context))
