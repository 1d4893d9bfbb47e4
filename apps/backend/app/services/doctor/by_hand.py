"""What no machine can see: to be decided, done or asked by a person."""

from app.services.doctor.findings import Finding, by_hand, passed
from app.services.esim_providers import Dedupe, get_esim_provider, going_live
from app.settings import Settings

IN_WRITING = (
    "have it in writing that a repeated order reference is not billed twice, or set CONNECTED_YOU_UNKNOWN_OUTCOME=hold"
)


async def list_matters(settings: Settings) -> list[Finding]:
    provider, sheet = get_esim_provider(settings), going_live(settings.esim_provider)
    matters = []
    if provider.base_url is not None:
        is_replaying = provider.capabilities.dedupe is Dedupe.REPLAY
        matters.append(
            by_hand("unknown-outcome", f"{sheet.replay_switch}: unknown orders are sent again", IN_WRITING)
            if is_replaying
            else passed("unknown-outcome", "an order of unknown outcome waits for a person, and is never sent again")
        )
        matters.append(_order_numbers(settings.order_id_start, is_live=provider.is_live))
    matters.append(
        by_hand(
            "backups",
            "whether there are any, and whether one was ever restored, can't be seen from here",
            "docs/backup.md: make one each night, keep ENCRYPTION_KEY and the journal apart from it, and restore one now",
        )
    )
    matters += [
        by_hand(
            f"question-{asked.name}", asked.question, f"ask {provider.name}; the answer goes to {asked.answer_goes}"
        )
        for asked in sheet.open_questions
    ]
    return matters


def _order_numbers(start: int, *, is_live: bool) -> Finding:
    if start != 1 or not is_live:
        return passed("order-numbers", f"orders begin at {start}")
    detail = "orders begin at 1: a second installation on this partner account would send the same references"
    return by_hand(
        "order-numbers", detail, "if there is or will be one (staging), give each an ORDER_ID_START of its own"
    )
