"""The seller's webhook endpoints: do they take what they are told, and where may they be?"""

from app.house import House
from app.services.doctor.findings import Finding, failed, failed_when, passed
from app.services.esim_providers import get_esim_provider
from app.services.webhooks.standing import FAILING_AFTER, count_endpoints
from app.settings import Settings

_LINE = "webhook-endpoints"


async def check_addresses(settings: Settings) -> list[Finding]:
    if not settings.webhooks_allow_private:
        return [passed("webhook-addresses", "webhooks go to public addresses alone, and by https")]
    detail = "WEBHOOKS_ALLOW_PRIVATE: webhooks may go by plain http, and to anything within your own network"
    to_do = "take it out, it is for development; endpoints that only it allows get nothing from then on (tribi webhooks list)"
    return [failed_when(get_esim_provider(settings).is_live, "webhook-addresses", detail, to_do)]


async def check_endpoints(house: House) -> list[Finding]:
    """No line where nobody wants to hear anything."""
    async with house.db.read() as connection:
        standing = await count_endpoints(connection)
    if standing.failing or standing.disabled:
        detail = (
            f"enabled: {standing.enabled}; of these nothing was taken for more than {FAILING_AFTER} by {standing.failing}; "
            f"disabled, as they answered 410 or took nothing for five days: {standing.disabled}"
        )
        return [failed(_LINE, detail, "tribi webhooks list; docs/operations/webhooks.md")]
    return [passed(_LINE, f"enabled: {standing.enabled}, and none is failing")] if standing.enabled else []
