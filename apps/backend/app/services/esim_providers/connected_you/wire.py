"""ConnectedYou over HTTP: where orders go, and how we say who we are."""

import ssl
from collections.abc import Callable

from app.services.esim_providers.contract import PreparedOrder
from app.services.esim_providers.one_post import OnePost
from app.services.esim_providers.statuses import Exchange


class Wire:
    """A `Line` over HTTP (blueprint, section 2)."""

    is_live = True

    def __init__(self, api_key: str, timeout_s: float, *, ssl_context: ssl.SSLContext | None = None) -> None:
        """
        Args:
            api_key: sent as `x-api-key`.
            timeout_s, ssl_context: as `OnePost` has them.
        """
        self._post = OnePost("ConnectedYou", timeout_s, ssl_context=ssl_context)
        self._headers = {"x-api-key": api_key, "Content-Type": "application/json"}

    async def send(self, order: PreparedOrder, may_send: Callable[[], bool]) -> Exchange:
        """As `Line.send`."""
        url = f"{order.base_url}/partners/orders"
        return await self._post.send(order, url=url, headers=self._headers, may_send=may_send)

    def use_api_key(self, api_key: str) -> None:
        self._headers = self._headers | {"x-api-key": api_key}  # a call under way keeps its own

    async def close(self) -> None:
        await self._post.close()
