"""The provider's settings: who sells, what is missing, and whether it costs money."""

from urllib.parse import urlsplit

from app.services.doctor.findings import Finding, by_hand, failed, passed
from app.services.esim_providers import get_esim_provider, going_live, missing_settings
from app.settings import Settings


async def check_provider(settings: Settings) -> list[Finding]:
    provider, sheet = get_esim_provider(settings), going_live(settings.esim_provider)
    if provider.base_url is None:
        return [
            by_hand(
                "provider",
                f"{provider.name} makes its eSIMs up: no phone can load them",
                "set ESIM_PROVIDER=CONNECTED_YOU once you have an account; without one, `tribi sandbox` stands in",
            )
        ]
    if missing := missing_settings(settings):
        detail = f"{provider.name} needs {' and '.join(missing)}: each activation fails before anything is sent"
        chosen = failed("provider", detail, f"set {' and '.join(missing)}, in apps/backend/.env or the environment")
    else:
        chosen = passed("provider", f"{provider.name}; orders go to {provider.base_url}")
    return [chosen, _live_orders(provider.is_live, provider.base_url, sheet.live_switch)]


def _live_orders(is_live: bool, base_url: str, switch: str) -> Finding:
    if is_live:
        return passed("live-orders", f"LIVE ORDERS ARE ON: each activation spends money at {urlsplit(base_url).netloc}")
    detail = "off, a dry run: nothing is sent or bought, and eSIMs are marked TEST"
    return by_hand("live-orders", detail, f"set {switch} once everything else is done, and start anew")
