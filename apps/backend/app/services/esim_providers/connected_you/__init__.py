"""ConnectedYou, as the integration blueprint of 2025-11-20 describes it (contracts/connected_you.draft.openapi.yaml)."""

from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esim_providers.connected_you.dry_run import DryRun
from app.services.esim_providers.connected_you.wire import Wire
from app.settings import Settings


def build_connected_you(settings: Settings) -> ConnectedYou:
    """From the blueprint's six settings. Missing credentials are reported by each activation, not here."""
    key = settings.connected_you_api_key
    api_key = key.get_secret_value() if key else None
    return ConnectedYou(
        partner_id=settings.connected_you_partner_id,
        api_key=api_key,
        base_url=settings.connected_you_base_url,
        line=DryRun() if settings.connected_you_dry_run else Wire(api_key or "", settings.provider_timeout_s),
    )
