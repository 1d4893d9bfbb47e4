"""Whether orders go out to the provider, how many may, and whether one ever has."""

from sqlalchemy import bindparam, func, select, text

from app.errors import PausedBy
from app.house import House
from app.models import ProvisioningAttempt
from app.models.esims import MAY_HAVE_SPENT
from app.services.doctor.findings import Finding, by_hand, failed, passed
from app.services.esim_providers import get_esim_provider
from app.services.esims.circuit import Circuit
from app.services.esims.pause import Obstacle, Outlook, outlook
from app.services.esims.spend import Caps, caps_of

_LOOKED_AT = 1000
"""Whoever has bought so much since, elsewhere, is told that this place is new."""

_NEWEST = (
    select(ProvisioningAttempt.outcome, ProvisioningAttempt.base_url, ProvisioningAttempt.closed_at)
    .where(text(MAY_HAVE_SPENT))  # in the order of the index that the caps are counted by
    .order_by(ProvisioningAttempt.opened_at.desc())
    .limit(_LOOKED_AT)
).subquery()
_DELIVERED = select(func.count(), func.max(_NEWEST.c.closed_at)).where(
    _NEWEST.c.outcome == "delivered", _NEWEST.c.base_url == bindparam("base_url")
)


async def check_spending(house: House) -> list[Finding]:
    """What keeps orders back, and the caps."""
    provider, settings = get_esim_provider(house.settings), house.settings
    circuit = Circuit(house.db, provider, settings.provider_circuit_failures)
    caps = caps_of(settings, is_live=provider.is_live)
    async with house.db.read() as connection:
        ahead = await outlook(connection, provider.name, circuit, caps)
    paused = [
        _paused(obstacle, provider.name)
        for obstacle in ahead.obstacles
        if obstacle.by is not PausedBy.HELD  # a line of its own: `held-mode`
    ]
    capped = [] if provider.base_url is None else [_capped(caps, ahead, is_live=provider.is_live)]
    return [*(paused or [passed("provider-paused", "not paused")]), *capped]


def _paused(obstacle: Obstacle, provider: str) -> Finding:
    since = "" if obstacle.since is None else f" since {obstacle.since:%Y-%m-%d %H:%M} UTC"
    match obstacle.by:
        case PausedBy.PERSON:
            detail = f"paused by {obstacle.actor}{since}: {obstacle.reason}"
            return by_hand("provider-paused", detail, f"when that is over: tribi providers resume {provider.lower()}")
        case PausedBy.CIRCUIT:
            detail = f"paused{since}: call after call failed ({obstacle.reason})"
            return failed("provider-paused", detail, "see docs/operations/provider-paused.md")
        case _:
            detail = f"{obstacle.reason} is used up until {obstacle.until:%Y-%m-%d %H:%M} UTC: paid orders wait"
            return failed("provider-paused", detail, "wait, or raise it (docs/operations/spend-cap.md)")


def _capped(caps: Caps | None, ahead: Outlook, *, is_live: bool) -> Finding:
    if caps is not None and ahead.spent is not None:
        bought = f"bought: {ahead.spent.last_hour} in the last hour, {ahead.spent.last_day} in the last day"
        return passed("spend-cap", f"at most {caps}; {bought}")
    to_do = "set LIVE_ESIMS_PER_HOUR and LIVE_ESIMS_PER_DAY to what you would sell on a very good day, the same on all machines"
    if is_live:
        return by_hand("spend-cap", "none: a mistake or a stolen service key may buy without end", to_do)
    return by_hand("spend-cap", "none is counted while nothing is bought", f"before live orders are on: {to_do}")


async def check_first_live(house: House) -> list[Finding]:
    """Whether anything was ever really bought where orders go now."""
    provider = get_esim_provider(house.settings)
    if provider.base_url is None:
        return []
    async with house.db.read() as connection:
        count, last_at = (await connection.execute(_DELIVERED, {"base_url": provider.base_url})).one()
    if count:
        told = f"{count}, the last" if count < _LOOKED_AT else f"all of the last {count}, the newest"
        detail = f"live eSIMs that came from {provider.base_url}: {told} on {last_at:%Y-%m-%d}"
        return [passed("first-live-esim", detail)]
    to_do = (
        "once live orders are on: tribi doctor --live buys one, after asking, and compares the answer with the contract"
    )
    return [by_hand("first-live-esim", f"none was ever bought at {provider.base_url}", to_do)]
