"""What can be sold, and who may sell it."""

from collections.abc import Sequence

from app.house import House
from app.services.accounts.keys import list_keys
from app.services.catalogue.checking import Finding as Oddity
from app.services.catalogue.checking import Severity, check_catalogue
from app.services.catalogue.plans import list_plans
from app.services.doctor.findings import Finding, by_hand, failed, passed
from app.services.esim_providers import plan_code_provider

_MAX_TOLD = 3
_NO_PLANS = "no-plans"
_SELLS = {"orders", "esims"}


async def check_plans(house: House) -> list[Finding]:
    provider = plan_code_provider(house.settings)
    async with house.db.read() as connection:
        plans = await list_plans(connection, provider)
        oddities = await check_catalogue(connection, provider)
    if any(oddity.code == _NO_PLANS for oddity in oddities):
        return [by_hand("catalogue", "no plan is on sale", "tribi catalogue import FILE.csv")]
    errors = [oddity for oddity in oddities if oddity.severity is Severity.ERROR]
    doubts = [oddity for oddity in oddities if oddity.severity is Severity.WARNING]
    coded = f", each with its code at {provider}" if provider else ""
    to_do = "correct the catalogue's file and import it; `tribi catalogue check` lists all"
    sold = failed("catalogue", _told(errors), to_do) if errors else passed("catalogue", f"{len(plans)} on sale{coded}")
    return [sold, *([by_hand("catalogue-doubts", _told(doubts), to_do)] if doubts else [])]


def _told(oddities: Sequence[Oddity]) -> str:
    more = len(oddities) - _MAX_TOLD
    return " ".join(oddity.sentence for oddity in oddities[:_MAX_TOLD]) + (f" And {more} more." if more > 0 else "")


async def check_keys(house: House) -> list[Finding]:
    async with house.db.read() as connection:
        keys = [key for key in await list_keys(connection) if key.revoked_at is None]
    scopes = {scope for key in keys for scope in key.scopes}
    if scopes >= _SELLS:
        return [passed("service-keys", f"{len(keys)} in use")]
    detail = "none that may place orders and activate them: no storefront can sell"
    return [by_hand("service-keys", detail, "tribi keys create my-shop --scope orders --scope esims")]
