"""Orders that wait for a person."""

from app.house import House
from app.services.doctor.findings import Finding, failed, passed
from app.services.esims.stuck import count_stuck


async def check_orders(house: House) -> list[Finding]:
    async with house.db.read() as connection:
        stuck = await count_stuck(connection)
    unknown = passed("unknown-outcomes", "none")
    if stuck.unknown:
        to_do = "tribi esims list --status unknown; ask the provider about each, then tribi esims resolve ID …"
        unknown = failed(
            "unknown-outcomes", f"eSIMs of which nobody knows whether they were bought: {stuck.unknown}", to_do
        )
    unfulfilled = passed("unfulfilled-orders", "none")
    if stuck.unfulfilled:
        detail = f"orders that were paid more than 15 minutes ago and have no eSIM: {stuck.unfulfilled}"
        to_do = "tribi esims list --unfulfilled (docs/operations/orders-unfulfilled.md)"
        unfulfilled = failed("unfulfilled-orders", detail, to_do)
    return [unknown, unfulfilled]
