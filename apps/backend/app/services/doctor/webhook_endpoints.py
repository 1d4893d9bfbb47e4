"""The seller's webhook endpoints: do they take what they are told?"""

from app.house import House
from app.services.doctor.findings import Finding, failed, passed
from app.services.webhooks.standing import FAILING_AFTER, count_endpoints

_LINE = "webhook-endpoints"


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
