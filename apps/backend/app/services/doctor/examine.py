"""The checks, all at the same time: each has its own time limit, and an error in one is a failed line."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from app.errors import ConfigurationError, DatabaseUnavailable
from app.house import House, open_house
from app.redaction import redact
from app.services.doctor import by_hand as matters
from app.services.doctor import (
    catalogue,
    clocks,
    database,
    journal,
    mailing,
    orders,
    outside,
    provider,
    provider_events,
    secret_files,
    spending,
    webhook_endpoints,
    work,
)
from app.services.doctor.findings import Finding, by_hand, failed
from app.settings import Settings

_LIMIT_S = 10.0
_OPEN_LIMIT_S = 150.0
"""The embedded database may have to be made first, on a slow machine."""


@dataclass(frozen=True, slots=True)
class Check:
    """
    One group of lines.

    Attributes:
        name: of its line where it comes to no finding of its own.
        of_settings, of_house: what it looks at, one of them given.
    """

    name: str
    of_settings: Callable[[Settings], Awaitable[Sequence[Finding]]] | None = None
    of_house: Callable[[House], Awaitable[Sequence[Finding]]] | None = None
    limit_s: float = _LIMIT_S


CHECKS = (
    Check("provider", provider.check_provider),
    Check("secret-files", secret_files.check_secret_files),
    Check("provider-tls", outside.check_provider_line),
    Check("nothing-repeats-a-post", outside.check_repeaters),
    Check("public-url", outside.check_public_url),
    Check("trusted-proxies", outside.check_trusted_proxies),
    Check("mail-server", mailing.check_mail_server),
    Check("database", of_house=database.check_server),
    Check("database-durability", of_house=database.check_durability),
    Check("database-migrations", of_house=database.check_migrations),
    Check("database-connections", of_house=database.check_connections),
    Check("clock", of_house=clocks.check_clocks),
    Check("held-mode", of_house=journal.check_held),
    Check("intent-journal", of_house=journal.check_journal),
    Check("catalogue", of_house=catalogue.check_plans),
    Check("service-keys", of_house=catalogue.check_keys),
    Check("jobs", of_house=work.check_jobs),
    Check("orders", of_house=orders.check_orders),
    Check("mails-refused", of_house=mailing.check_refused),
    Check("webhook-endpoints", of_house=webhook_endpoints.check_endpoints),
    Check("webhook-addresses", webhook_endpoints.check_addresses),
    Check("provider-paused", of_house=spending.check_spending),
    Check("first-live-esim", of_house=spending.check_first_live),
    Check("provider-webhooks", of_house=provider_events.check_webhooks),
    Check("by-hand", matters.list_matters),
)


async def examine(settings: Settings, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """What all checks find, in their order; nothing secret or personal stands in it."""
    async with AsyncExitStack() as stack:
        house, trouble = None, None
        try:
            async with asyncio.timeout(_OPEN_LIMIT_S):
                house = await stack.enter_async_context(open_house(settings))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a line, and the others are wanted all the more
            trouble = _trouble(error)
        found = await asyncio.gather(*(_look(check, settings, house) for check in checks))
    findings = [finding for group in found for finding in group]
    return [safe(finding, settings) for finding in ([trouble] if trouble else []) + findings]


def mistakes(error: ConfigurationError) -> list[Finding]:
    """The checklist of an installation whose settings can't even be read."""
    return [failed("settings", line, "correct it, then run `tribi doctor` again") for line in str(error).splitlines()]


async def _look(check: Check, settings: Settings, house: House | None) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(check.limit_s):
            if check.of_settings is not None:
                return await check.of_settings(settings)
            if check.of_house is None or house is None:
                return [by_hand(check.name, "not looked at: the database can't be used", "look again once it can")]
            return await check.of_house(house)
    except TimeoutError:
        to_do = "find out what it waits for (a firewall that drops, a server that hangs), then run `tribi doctor` again"
        return [failed(check.name, f"no answer within {check.limit_s:g} seconds", to_do)]
    except Exception as error:  # noqa: BLE001 - whatever it is, the other lines are wanted all the more
        return [
            failed(
                check.name,
                f"{type(error).__name__}: {error}",
                "look for it in docs/operations; if that doesn't help, report it",
            )
        ]


def _trouble(error: Exception) -> Finding:
    match error:
        case ConfigurationError():
            return failed(
                "installation", " ".join(str(error).splitlines()), "correct it, then run `tribi doctor` again"
            )
        case DatabaseUnavailable():
            to_do = "start it, or correct DATABASE_URL; a new one wants `tribi migrate`"
            return failed("database", str(error), to_do)
        case TimeoutError():
            detail = f"it did not open within {_OPEN_LIMIT_S:g} seconds"
            return failed("database", detail, "find out what it waits for, then run `tribi doctor` again")
        case _:
            detail = f"it cannot be used: {type(error).__name__}: {error}"
            return failed("database", detail, f"it must be PostgreSQL, {database.OLDEST_VERSION} or later, with UTF8")


def safe(finding: Finding, settings: Settings) -> Finding:
    """Without what is secret or personal in it."""
    known = settings.secrets()
    to_do = None if finding.to_do is None else redact(finding.to_do, known)
    return replace(finding, detail=redact(finding.detail, known), to_do=to_do)
