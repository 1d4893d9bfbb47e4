"""`tribi doctor --live`, before the question: may it be done, which plan is bought, and the very request that would be sent."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from app.house import House
from app.services.catalogue.plans import plan_for_sale
from app.services.catalogue.stored import stored_plans
from app.services.doctor.by_hand import IN_WRITING
from app.services.doctor.findings import Finding, failed
from app.services.esim_providers import Dedupe, PreparedOrder, ShownRequest, get_esim_provider, going_live
from app.services.esims.intent import provision_request
from app.services.orders.place import NewOrder, draw_order_id
from app.settings import Settings
from app.values.money import Money

LINE = "live-purchase"
_CUSTOMER = "Tribi Doctor"
_PAYMENT = "tribi doctor --live"


@dataclass(frozen=True, slots=True)
class Offer:
    """
    What would be bought.

    Attributes:
        order_id: drawn already; no other order gets it.
        price, cost: in words; `cost` as the catalogue has it.
    """

    order_id: int
    new: NewOrder
    order: PreparedOrder
    shown: ShownRequest
    price: str
    cost: str


def why_not(settings: Settings) -> Finding | None:
    """What forbids it whatever the database says; None where nothing does."""
    provider, sheet = get_esim_provider(settings), going_live(settings.esim_provider)
    if provider.base_url is None:
        detail = f"nothing was sent: ESIM_PROVIDER is {provider.name}, which sells nothing"
        return failed(LINE, detail, "set ESIM_PROVIDER to a provider that does, and its live switch")
    if not provider.is_live:
        return failed(
            LINE, f"nothing was sent: it is a dry run ({_name_of(sheet.live_switch)})", f"set {sheet.live_switch}"
        )
    if sheet.shown is None:
        detail = f"nothing was sent: what would be sent to {provider.name} can't be shown"
        return failed(LINE, detail, "give it a sheet (docs/providers/adding_one.md)")
    if provider.capabilities.dedupe is Dedupe.REPLAY and settings.order_id_start == 1:
        detail = (
            f"nothing was sent: with {sheet.replay_switch}, orders that begin at 1 may be answered with those of another "
            "installation on this partner account"
        )
        return failed(LINE, detail, f"set ORDER_ID_START to a number of this installation's own; and {IN_WRITING}")
    return None


def _name_of(switch: str) -> str:
    return switch.partition("=")[0]


async def make_offer(house: House, *, sku: str | None, email: str | None) -> Offer:
    """
    Args:
        sku: which plan; None for the cheapest with a code.
        email: the customer's; None for the shop's own.

    Raises:
        ValueError: there is nobody to buy it for, or nothing to buy.
        SupplierNotConfigured: a setting is missing.
    """
    provider = get_esim_provider(house.settings)
    try:
        customer = email or house.settings.mail_from
        if customer is None:
            raise ValueError("nobody to buy it for: give --email ADDRESS; the eSIM is mailed there")
        async with house.db.read() as connection:
            sku = sku or await _cheapest(connection, provider.name)
            sale = await plan_for_sale(connection, sku, provider.name)
            if sale is None or sale.external_id is None:
                raise ValueError(
                    f"no plan {sku!r} with a code at {provider.name} is on sale: see `tribi catalogue export`"
                )
            cost_minor = (await stored_plans(connection))[sku].row.codes[provider.name].cost_minor
            order_id = await draw_order_id(connection)
        snapshot = sale.plan.plan_snapshot(provider.name, sale.external_id)
        order = provider.prepare(provision_request(order_id, snapshot, provider.name, None, customer, _CUSTOMER))
    finally:
        await provider.close()
    shown = going_live(provider.name).shown
    assert shown is not None  # noqa: S101 - `why_not` has seen that it is a provider with a sheet
    return Offer(
        order_id,
        NewOrder(sku, customer, _CUSTOMER, _PAYMENT),
        order,
        shown(order),
        price=str(Money(sale.plan.price_minor, sale.plan.currency)),
        cost="not in the catalogue" if cost_minor is None else str(Money(cost_minor, sale.plan.currency)),
    )


async def _cheapest(connection: AsyncConnection, provider: str) -> str:
    """By its cost there where the catalogue has one, then by its price."""
    plans = [
        plan.row for plan in (await stored_plans(connection)).values() if plan.is_on_sale and provider in plan.row.codes
    ]
    if not plans:
        raise ValueError(f"no plan with a code at {provider} is on sale: tribi catalogue import FILE.csv")
    costs = {plan.sku: plan.codes[provider].cost_minor for plan in plans}
    return min(plans, key=lambda plan: (costs[plan.sku] is None, costs[plan.sku], plan.price_minor, plan.sku)).sku
