"""ESIM_PROVIDER's value → how to build that provider. One table."""

from collections.abc import Callable

from app.services.esim_providers.connected_you import build_connected_you, build_connected_you_events
from app.services.esim_providers.connected_you.client import CAPABILITIES, ConnectedYou
from app.services.esim_providers.connected_you.going_live import SHEET as CONNECTED_YOU_SHEET
from app.services.esim_providers.contract import Capabilities, EsimProvider
from app.services.esim_providers.events import EventSource
from app.services.esim_providers.going_live import GoingLive
from app.services.esim_providers.local import Local
from app.settings import Settings, load_settings

_BUILDERS: dict[str, tuple[Capabilities, Callable[[Settings], EsimProvider]]] = {
    Local.name: (Local.capabilities, lambda _: Local()),
    ConnectedYou.name: (CAPABILITIES, build_connected_you),
}
_EVENT_SOURCES: dict[str, Callable[[Settings], EventSource]] = {ConnectedYou.name: build_connected_you_events}
"""Of those that have events."""

_SHEETS = {ConnectedYou.name: CONNECTED_YOU_SHEET}


def get_esim_provider(settings: Settings | None = None) -> EsimProvider:
    """
    The provider that `ESIM_PROVIDER` names, built from the environment unless settings are given.

    Raises:
        ConfigurationError: the environment holds values that cannot be.
    """
    settings = settings or load_settings()
    _, build = _BUILDERS[settings.esim_provider]
    return build(settings)


def provider_names() -> tuple[str, ...]:
    """All providers that there are, configured or not."""
    return tuple(_BUILDERS)


def event_source(settings: Settings, provider: str) -> EventSource | None:
    """
    The events of any provider that there is, also of one that isn't chosen any more: what it has sold lives on.

    Returns:
        None where there is no such provider, or it has no events.
    """
    build = _EVENT_SOURCES.get(provider)
    return build(settings) if build else None


def plan_code_provider(settings: Settings) -> str | None:
    """Whose code a plan needs to be sold as configured; None where the provider needs none."""
    capabilities, _ = _BUILDERS[settings.esim_provider]
    return settings.esim_provider if capabilities.needs_plan_code else None


def providers_with_plan_codes() -> tuple[str, ...]:
    """All providers whose own code a plan needs, configured or not: those that the catalogue's file has columns for."""
    return tuple(name for name, (capabilities, _) in _BUILDERS.items() if capabilities.needs_plan_code)


def missing_settings(settings: Settings) -> list[str]:
    """The environment's names of what no order can be made without."""
    sheet = going_live(settings.esim_provider)
    needed = sheet.needs + (sheet.needs_when_live if settings.is_live else ())
    return [name.upper() for name in needed if not getattr(settings, name)]


def going_live(provider: str) -> GoingLive:
    """What `tribi doctor` has to know of a provider; an empty sheet where it needs nothing and costs nothing."""
    return _SHEETS.get(provider, GoingLive())
