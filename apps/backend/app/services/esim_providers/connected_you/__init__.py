"""ConnectedYou, as the integration blueprint of 2025-11-20 describes it (contracts/connected_you.draft.openapi.yaml)."""

from dataclasses import replace

from app.services.esim_providers.connected_you.client import CAPABILITIES, ConnectedYou
from app.services.esim_providers.connected_you.dry_run import DryRun
from app.services.esim_providers.connected_you.events import ConnectedYouEvents
from app.services.esim_providers.connected_you.wire import Wire
from app.services.esim_providers.contract import Dedupe
from app.settings import Settings


def build_connected_you(settings: Settings) -> ConnectedYou:
    """From its settings. Missing credentials are reported by each activation, not here."""
    key = settings.connected_you_api_key
    api_key = key.get_secret_value() if key else None
    capabilities = CAPABILITIES
    if (
        settings.connected_you_unknown_outcome == "replay"
    ):  # the operator's word for what the draft contract leaves open
        window_s = settings.connected_you_replay_hours * 3600
        capabilities = replace(CAPABILITIES, dedupe=Dedupe.REPLAY, replay_window_s=window_s)
    return ConnectedYou(
        partner_id=settings.connected_you_partner_id,
        api_key=api_key,
        base_url=settings.connected_you_base_url,
        line=DryRun() if settings.connected_you_dry_run else Wire(api_key or "", settings.provider_timeout_s),
        capabilities=capabilities,
    )


def build_connected_you_events(settings: Settings) -> ConnectedYouEvents:
    secret = settings.connected_you_webhook_secret
    return ConnectedYouEvents(settings.connected_you_webhook_header, secret.get_secret_value() if secret else None)
