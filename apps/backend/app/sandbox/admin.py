"""The sandbox's own addresses, beside the one that ConnectedYou has: the page, the ledger, webhooks on demand."""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from app.sandbox.answering import error_reply
from app.sandbox.behaviours import ONCE, TABLE
from app.sandbox.events import read_wish
from app.sandbox.ledger import Ledger
from app.sandbox.orders import Refused
from app.sandbox.page import HEADERS, page
from app.sandbox.webhooks import Webhooks, shape
from app.values.strict_json import read_strict_json

_FORM = "application/x-www-form-urlencoded"

log = structlog.get_logger()


class Admin:
    def __init__(self, ledger: Ledger, webhooks: Webhooks, ledger_is_kept: str) -> None:
        """
        Args:
            ledger_is_kept: a sentence on where the ledger is, for the page.
        """
        self._ledger = ledger
        self._webhooks = webhooks
        self._ledger_is_kept = ledger_is_kept

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/", self._page)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/sandbox/ledger", self._show_ledger)
        app.router.add_get("/sandbox/behaviours", self._show_behaviours)
        app.router.add_get("/sandbox/webhooks", self._show_webhooks)
        app.router.add_post("/sandbox/webhooks", self._send_webhook)
        app.router.add_post("/sandbox/forget", self._forget)

    async def _page(self, _: web.Request) -> web.Response:
        text = page(self._ledger, self._webhooks, self._ledger_is_kept)
        return web.Response(text=text, content_type="text/html", headers=HEADERS)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _show_ledger(self, request: web.Request) -> web.Response:
        return web.json_response(self._ledger.shape(request.query.get("order_reference")))

    async def _show_behaviours(self, _: web.Request) -> web.Response:
        rows = [{"plan_code": b.usage, "does": b.does, "is_billed": b.is_issued} for b in TABLE.values()]
        return web.json_response({"behaviours": rows, "once": ONCE})

    async def _show_webhooks(self, _: web.Request) -> web.Response:
        return web.json_response(shape(list(self._webhooks.deliveries)))

    async def _send_webhook(self, request: web.Request) -> web.Response:
        _only_by_our_page(request)
        is_form = request.content_type == _FORM
        sent = await self._webhooks.send(read_wish(await _form(request) if is_form else await _json(request)))
        if is_form:
            raise web.HTTPSeeOther("/")
        return web.json_response(shape(sent), status=200 if all(delivery.is_taken for delivery in sent) else 502)

    async def _forget(self, request: web.Request) -> web.Response:
        _only_by_our_page(request)
        self._ledger.forget()
        self._webhooks.deliveries.clear()
        if request.content_type == _FORM:
            raise web.HTTPSeeOther("/")
        return web.json_response({"status": "forgotten"})


def _only_by_our_page(request: web.Request) -> None:
    """
    Some other page that is open in the developer's browser may not send requests through the sandbox. Programs send no Origin.

    A page of our own has our address as its origin, and that is no name which somebody's DNS could lead to us (rebinding).

    Raises:
        Refused: 403.
    """
    origin = request.headers.get("Origin")
    if origin is not None and not (origin == f"http://{request.host}" and _is_no_strangers_name(origin)):
        raise Refused(403, "not_from_here", "Browsers may do this from the sandbox's own page only.")


def _is_no_strangers_name(origin: str) -> bool:
    host = urlsplit(origin).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


async def _form(request: web.Request) -> dict[str, str]:
    """What is left empty counts as left out."""
    return {name: str(value) for name, value in (await request.post()).items() if value}


async def _json(request: web.Request) -> Any:  # noqa: ANN401 - any JSON
    if request.content_type != "application/json":
        raise Refused(415, "not_json", "The header Content-Type must be application/json.")
    try:
        return read_strict_json(await request.read())
    except ValueError:
        raise Refused(400, "not_json", "The body isn't JSON in UTF-8, or names a field twice.") from None


@web.middleware
async def errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """All errors have one form; what went wrong in the sandbox itself goes to its log."""
    try:
        return await handler(request)
    except Refused as refused:
        return error_reply(refused)
    except web.HTTPRedirection:
        raise
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return error_reply(Refused(error.status, error.reason.lower().replace(" ", "_"), error.reason), allow)
    except Exception:
        log.exception("sandbox.failed")
        return error_reply(Refused(500, "bug", "The sandbox has a bug; its log says more. Please report it."))
