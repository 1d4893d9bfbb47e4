"""`tribi doctor --live`, after the answer: one real order, by the code that sells, and its answer against the contract."""

import secrets
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Tag, record
from app.errors import DatabaseUnavailable, TribiError
from app.house import House
from app.models.accounts import SCOPES
from app.services.accounts.keys import create_key, list_keys, revoke_key
from app.services.doctor.answer import SeenField, compare
from app.services.doctor.findings import Finding, failed, passed
from app.services.doctor.offer import LINE, Offer
from app.services.esim_providers import EsimProvider, get_esim_provider, going_live
from app.services.esims.activate import DRAIN_MARGIN_S, Activations
from app.services.esims.cancel import cancel_unissued
from app.services.esims.dossier import dossier_of
from app.services.esims.esim import Esim, esim_by_order
from app.services.esims.intent import provision_request
from app.services.orders.page_links import page_links
from app.services.orders.place import place_order
from app.services.orders.show import order_by_id

KEY_NAME = "tribi doctor"
"""The service key in whose name it is bought. It is revoked as soon as it is made: nobody ever knows its secret."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """`fields`: those of the answer, in full; for a terminal's eyes only. None came where none are there."""

    findings: list[Finding]
    fields: list[SeenField]


class OfferHasChanged(Exception):
    """Catalogue or settings have changed since the offer was shown: something else would be sent."""


async def buy(house: House, offer: Offer, *, actor: str) -> Purchase:
    """
    Buys one eSIM.

    Args:
        actor: who has said yes, in the form of `audit_log.actor`.

    Raises:
        ConfigurationError: the intent journal can't be written. Nothing was sent.
        TribiError, OfferHasChanged: the order could not be placed. Nothing was sent.
    """
    provider, timeout_s = get_esim_provider(house.settings), house.settings.provider_timeout_s
    wait_s = timeout_s + DRAIN_MARGIN_S
    activations = Activations(house, provider, timeout_s=timeout_s, wait_s=wait_s, max_concurrency=1)
    try:
        if house.journal is not None:
            house.journal.prepare()
        await _place(house, offer, provider, actor)
        trouble = None
        try:
            await activations.activate(offer.order_id, actor=actor)
        except TribiError as error:
            trouble = error
    finally:
        await activations.drain(wait_s)
        await provider.close()
    try:
        return await _outcome(house, offer, provider, trouble, actor)
    except DatabaseUnavailable as away:
        detail = f"{offer.order.reference} may have been sent, and how it ended can't be read: {away}"
        to_do = "buy no other; once the database is back: tribi esims list, then tribi esims show ID"
        return Purchase([failed(LINE, detail, to_do)], [])


async def _place(house: House, offer: Offer, provider: EsimProvider, actor: str) -> None:
    async with house.db.begin() as connection:
        await place_order(
            connection,
            offer.new,
            idempotency_key=f"doctor-{secrets.token_hex(16)}",
            key_id=await _own_key(connection, actor),
            provider=provider.name,
            code_provider=provider.name,
            is_live=provider.is_live,
            drawn_id=offer.order_id,
            page_links=page_links(house),
        )
        placed = await order_by_id(connection, offer.order_id)
        request = provision_request(
            placed.id, placed.plan_snapshot, provider.name, None, placed.customer_email, placed.customer_name
        )
        if provider.prepare(request) != offer.order:
            raise OfferHasChanged


async def _own_key(connection: AsyncConnection, actor: str) -> int:
    for key in await list_keys(connection):
        if key.name == KEY_NAME and key.revoked_at is not None:
            return key.id
    key, _ = await create_key(connection, KEY_NAME, list(SCOPES), actor=actor)
    await revoke_key(connection, key.id, actor=actor)
    return key.id


async def _outcome(
    house: House, offer: Offer, provider: EsimProvider, trouble: TribiError | None, actor: str
) -> Purchase:
    async with house.db.begin() as connection:
        esim = await esim_by_order(connection, house.vault, offer.order_id)
        if esim.status == "provisioned":
            return await _bought(connection, house, provider, esim, actor)
        said = str(trouble) if trouble is not None else f"the eSIM is {esim.status}"
        reason = "tribi doctor --live: nothing was issued"
        if await cancel_unissued(connection, offer.order_id, actor=actor, reason=reason):
            detail = f"nothing was bought, and {offer.order.reference} is cancelled: {said}"
            return Purchase([failed(LINE, detail, "put that right, then run `tribi doctor --live` again")], [])
    detail = f"{offer.order.reference} was sent, and whether an eSIM was bought is not known: {said}"
    to_do = (
        f"ask {provider.name} about {offer.order.reference} before you buy another; then tribi esims resolve {esim.id} "
        f"--issued CODE --reason TEXT, or --not-issued --reason TEXT (docs/operations/activation-outcome-unknown.md)"
    )
    return Purchase([failed(LINE, detail, to_do)], [])


async def _bought(
    connection: AsyncConnection, house: House, provider: EsimProvider, esim: Esim, actor: str
) -> Purchase:
    dossier = await dossier_of(connection, house.vault, esim.id)
    await record(connection, actor, Tag.ESIM_VIEWED, "esim_profiles", esim.id, count=1)
    attempt = dossier.attempts[-1]
    sheet = going_live(provider.name)
    detail = f"one eSIM was bought: {attempt['reference']} is eSIM {esim.id}, after {attempt['duration_ms']} ms"
    fields = compare(sheet, attempt["response_status"], dossier.provider_payload, attempt["reference"])
    odd = [failed("live-warnings", f"Tribi took it with {', '.join(esim.warnings)}", f"ask {provider.name} about each")]
    return Purchase(
        [passed(LINE, detail), *(seen.finding(provider.name) for seen in fields), *(odd if esim.warnings else [])],
        fields,
    )
