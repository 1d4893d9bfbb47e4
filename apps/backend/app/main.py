"""Puts the house together: one application object per server process."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import structlog
from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from app.api import (
    auth,
    esims,
    install_page,
    orders,
    plans,
    platform,
    problems,
    reading,
    webhook_endpoints,
    webhooks,
)
from app.api.access import Office
from app.api.problems import Problem
from app.api.shell import Shell
from app.api.webhook_events import described_events
from app.errors import ConfigurationError, DatabaseUnavailable
from app.house import House, open_house
from app.jobs.delivering import keep_delivering
from app.jobs.renewing import keep_credential_current
from app.jobs.running import keep_replaying, keep_sweeping, keep_working
from app.services.esim_providers import get_esim_provider, missing_settings
from app.services.esims.activate import DRAIN_MARGIN_S, Activations
from app.services.esims.by_key import ByKey
from app.services.esims.spend import warn_of_live_orders
from app.settings import Settings, load_settings, public_url

GAVE_UP = 1
"""The exit status of a server that had to leave calls in flight behind."""

MISCONFIGURED = os.EX_CONFIG
"""That of a worker which can't go on as it is configured: starting another won't help."""

_SETTLE_INTERVAL_S = 1

log = structlog.get_logger()

_DESCRIPTION = """
Tribi sells and provisions travel eSIMs: **one paid order becomes exactly one eSIM**.

1. `POST /api/orders` places a paid order (service key with the scope `orders`, and an `Idempotency-Key`).
2. `POST /api/esims/activate` buys its eSIM, once, however often it is called (scope `esims`).
3. `GET /api/esims/{id}` and its QR pictures give what the traveller installs.
4. `POST /api/webhook-endpoints` names a URL that hears of it (scope `webhooks`; signed as Standard Webhooks are).
5. Travellers sign in by themselves with a code from an e-mail (`POST /api/auth/code`, then `/api/auth/session`), see
    what was ordered with their address, and activate it.

Errors are problem documents (RFC 9457); each `type` is a [readable page](/problems/). Times are RFC 3339 in UTC, money is in minor
units with ISO 4217 codes, countries are ISO 3166-1 alpha-2.
"""


def create_app(settings: Settings | None = None) -> Shell:
    """The ASGI application. Without settings the environment is read (ConfigurationError where it can't be)."""
    settings = settings or load_settings()
    app = FastAPI(
        title="Tribi",
        version=version("tribi"),
        summary="Sells and provisions travel eSIMs",
        description=_DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lambda app: _open(app, settings),
        redirect_slashes=False,
        # What it would send elsewhere holds the paths, and they may hold secrets.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for router in (
        esims.plain,
        esims.router,
        orders.router,
        plans.router,
        auth.router,
        webhooks.router,
        install_page.router,
        webhook_endpoints.router,
        platform.router,
        reading.router,
    ):
        # In one list, what is asked for most first: `include_router` would look for each request's route in it twice.
        app.router.routes += router.routes
    problems.install(app)
    _complete_openapi(app)
    return Shell(app, is_https=public_url(settings).startswith("https://"))


@asynccontextmanager
async def _open(app: FastAPI, settings: Settings) -> AsyncGenerator[None, None]:
    provider = get_esim_provider(settings)
    async with open_house(settings, wait_for_database=False) as house:
        activations = Activations(
            house,
            provider,
            timeout_s=settings.provider_timeout_s,
            wait_s=settings.wait_s,
            max_concurrency=settings.provider_max_concurrency,
        )
        app.state.office = Office(house, provider, activations, ByKey(house), public_url(settings))
        _greet(settings)
        settling = asyncio.create_task(_settle(house))
        background = [
            settling,
            asyncio.create_task(_after(settling, lambda: keep_sweeping(house))),
            asyncio.create_task(_after(settling, lambda: keep_replaying(activations))),
            asyncio.create_task(_after(settling, lambda: keep_working(house))),
            asyncio.create_task(_after(settling, lambda: keep_delivering(house))),
            asyncio.create_task(keep_credential_current(settings, provider)),
        ]
        try:
            yield
        finally:
            stop_by = app.state.stop_by()
            left_s = settings.provider_timeout_s + DRAIN_MARGIN_S if stop_by is None else stop_by - time.monotonic()
            app.state.has_given_up = not await _wind_up(activations, background, max(left_s, 0))
            await provider.close()
            if app.state.has_given_up:
                log.error("server.gave_up", left="what was in flight: the recovery sweep and the queue settle it")


async def _wind_up(activations: Activations, background: list[asyncio.Task[None]], within_s: float) -> bool:
    """Finishes calls in flight and jobs at hand, side by side. Returns False if it had to give up some."""
    for task in background:
        task.cancel()
    is_drained, (_, unfinished) = await asyncio.gather(
        activations.drain(within_s), asyncio.wait(background, timeout=within_s)
    )
    return is_drained and not unfinished


async def _settle(house: House) -> None:
    """A server may start before its database does; what can't be repaired by waiting ends it."""
    while True:
        try:
            await house.settle()
            if house.journal is not None:
                house.journal.prepare()
        except DatabaseUnavailable:
            await asyncio.sleep(_SETTLE_INTERVAL_S)
        except ConfigurationError as error:
            log.critical("server.cannot_go_on", error=str(error))
            os._exit(MISCONFIGURED)
        except Exception:
            log.exception("server.settle_failed")  # to end here would be to turn every request away for ever
            await asyncio.sleep(_SETTLE_INTERVAL_S)
        else:
            return


async def _after(settling: asyncio.Task[None], work: Callable[[], Awaitable[None]]) -> None:
    """A server of a newer release may run before its database is migrated; its jobs are not for the older tables."""
    await asyncio.shield(settling)
    await work()


def _greet(settings: Settings) -> None:
    if missing := missing_settings(settings):
        log.warning("server.provider_not_configured", missing=missing, effect="activations fail before any HTTP")
    warn_of_live_orders(settings)
    log.info("server.started", provider=settings.esim_provider, is_live=settings.is_live, url=public_url(settings))


def _complete_openapi(app: FastAPI) -> None:
    """Adds what FastAPI doesn't know of: the problem document, and the bodies that routes read by themselves."""
    generate = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            components = document.setdefault("components", {}).setdefault("schemas", {})
            _, described = models_json_schema(
                [
                    (model, "validation")
                    for model in (
                        Problem,
                        orders.OrderIn,
                        esims.ActivateIn,
                        webhook_endpoints.EndpointIn,
                        webhook_endpoints.EndpointChangeIn,
                        auth.CodeIn,
                        auth.SessionIn,
                    )
                ],
                ref_template="#/components/schemas/{model}",
            )
            components.update(described["$defs"])
            document["webhooks"], news = described_events()
            components.update(news)
            for unused in ("HTTPValidationError", "ValidationError"):
                components.pop(unused, None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
