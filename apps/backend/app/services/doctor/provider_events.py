"""The provider's webhooks: can they come in, do they, and whose are they?"""

from urllib.parse import urlsplit

from app.house import House
from app.services.doctor.findings import Finding, by_hand, failed_when, passed
from app.services.esim_providers import EsimProvider, EventSource, event_source, get_esim_provider
from app.services.news.on_file import PARKED_FOR, hearsay_of
from app.setting_values import is_loopback
from app.settings import Settings

_LINE = "provider-webhooks"
_PAGE = "docs/operations/provider-webhooks.md"


async def check_webhooks(house: House) -> list[Finding]:
    """No line where the provider has none."""
    provider = get_esim_provider(house.settings)
    source = event_source(house.settings, provider.name)
    if source is None:
        return []
    async with house.db.read() as connection:
        heard = await hearsay_of(connection, provider.name)
    trouble = _trouble(house.settings, source, provider)
    if trouble is not None:
        line = trouble
    elif heard.last_at is None:
        line = by_hand(_LINE, "the secret is set; none has come yet", f"{_portal(house.settings, source)}; see {_PAGE}")
    else:
        line = passed(_LINE, f"the secret is set; the last one came at {heard.last_at:%Y-%m-%d %H:%M} UTC")
    return [line, _parked(heard.parked)]


def _trouble(settings: Settings, source: EventSource, provider: EsimProvider) -> Finding | None:
    portal = source.portal
    # A provider on this machine (the sandbox) reaches whatever is here, and there is nobody to keep out.
    is_here = is_loopback(urlsplit(provider.base_url or "").hostname or "")
    is_defect = provider.is_live and not is_here
    if not portal.has_secret:
        detail = f"{portal.secret_setting} isn't set, so {source.name}'s webhooks are refused: what the handset does isn't known"
        to_do = f"set it (`openssl rand -hex 32` makes one) on all servers; then {_portal(settings, source)}"
        return by_hand(_LINE, detail, to_do)
    if portal.is_guessable:
        detail = f"{portal.secret_setting} is so short that it can be guessed"
        return failed_when(is_defect, _LINE, detail, "`openssl rand -hex 32` makes one; the portal must have the same")
    url = urlsplit(settings.public_url or "")
    if is_here or (url.scheme == "https" and not is_loopback(url.hostname or "")):
        return None
    detail = f"{source.name} can't reach {settings.public_url or 'us while PUBLIC_URL is unset'}"
    return failed_when(
        is_defect, _LINE, detail, "set PUBLIC_URL=https://… to the address under which the world reaches Tribi"
    )


def _portal(settings: Settings, source: EventSource) -> str:
    address = f"{settings.public_url or 'PUBLIC_URL'}/api/webhooks/{source.name.lower()}"
    return f"enter {address} in {source.name}'s portal for each event type, with that secret in the header {source.portal.header}"


def _parked(count: int) -> Finding:
    if count == 0:
        return passed("provider-news", f"no event has waited for its eSIM for more than {PARKED_FOR}")
    detail = f"events about eSIMs that aren't ours, for more than {PARKED_FOR}: {count}"
    return by_hand("provider-news", detail, f"tribi providers news --parked; is another shop on this account? {_PAGE}")
