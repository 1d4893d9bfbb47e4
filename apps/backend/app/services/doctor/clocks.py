"""Three clocks: this machine's, the database's, the provider's."""

import time
from datetime import datetime
from email.utils import parsedate_to_datetime

import aiohttp
from sqlalchemy import func, select

from app.house import House
from app.services.doctor.findings import Finding, failed, passed
from app.services.doctor.outside import a_session
from app.services.esim_providers import get_esim_provider
from app.settings import Settings

MOST_FROM_DATABASE_S = 5
MOST_FROM_PROVIDER_S = 60
"""Their `Date` counts whole seconds, and their clock is theirs."""

_PATIENCE_S = 5
_TO_DO = "set this machine's clock, and keep it set: `timedatectl set-ntp true` (chrony, ntpd)"


async def check_clocks(house: House) -> list[Finding]:
    """How far this machine's clock is ahead. What Tribi decides it decides by the database's alone; logs and TLS go by this one."""
    async with house.db.read() as connection:
        await connection.execute(select(1))  # a connection that has to be opened first would be counted as distance
        asked_at = time.time()
        theirs = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
        distances = [("the database", _ahead(asked_at, time.time(), theirs), MOST_FROM_DATABASE_S)]
    provider_distance = await _from_provider(house.settings)
    if provider_distance is not None:
        distances.append(("the provider", provider_distance, MOST_FROM_PROVIDER_S))
    said = ", ".join(_said(ahead, whose) for whose, ahead, _ in distances)
    if any(abs(ahead) > most for _, ahead, most in distances):
        return [failed("clock", f"this machine's is {said}", _TO_DO)]
    return [passed("clock", f"this machine's is {said}")]


def _ahead(asked_at: float, answered_at: float, theirs: datetime) -> float:
    """In seconds; nought where their time lies between question and answer."""
    instant = theirs.timestamp()
    return min(0.0, answered_at - instant) or max(0.0, asked_at - instant)


def _said(ahead: float, whose: str) -> str:
    if abs(ahead) < 1:
        return f"less than a second from {whose}'s"
    return f"{abs(ahead):.0f} s {'behind' if ahead < 0 else 'ahead of'} {whose}'s"


async def _from_provider(settings: Settings) -> float | None:
    """By the `Date` of an answer to a HEAD without credentials. None in a dry run, and where they tell no time."""
    provider = get_esim_provider(settings)
    if not provider.is_live or provider.base_url is None:
        return None
    asked_at = time.time()
    try:
        async with (
            a_session(_PATIENCE_S) as http,
            http.head(provider.base_url, allow_redirects=False) as reply,
        ):
            theirs = parsedate_to_datetime(reply.headers["Date"])
    except (aiohttp.ClientError, OSError, TimeoutError, KeyError, ValueError):
        return None
    return _ahead(asked_at, time.time(), theirs)
