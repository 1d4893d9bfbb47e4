"""Transaction one: the intent. The order is locked and checked, and the exact request put on file before anything is sent.

Locks are taken in the order `orders`, `esim_profiles`, `provisioning_attempts`, here and everywhere.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import and_, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app import failpoints
from app.audit import RECORD, Tag
from app.audit import entry as audit_entry
from app.direct import Direct
from app.errors import NotFound
from app.failpoints import Point
from app.held import FORGETS, HELD_SINCE, DatabaseForgets, InstallationHeld, of_line
from app.journal import Entry, hash_of
from app.models import EsimProfile, IdempotencyKey, Order, PlanCode, ProvisioningAttempt
from app.services.esim_providers import EsimProvider, PreparedOrder, ProvisionRequest
from app.services.esims.circuit import Standing, pass_gate
from app.services.esims.errors import OrderNotPaid, OutcomeStillUnknown
from app.services.esims.spend import Caps, in_turn, spend
from app.vault import Place, Vault

DEADLINE_MARGIN_S = 5
"""An attempt is given up this long after the provider's timeout (database time)."""


SEND_WITHIN_S = 2
"""An order is sent this soon after its intent was committed, or not at all (a process may have been asleep in between)."""

# CLOCK_BOOTTIME goes on while a machine sleeps; where there is none (macOS), CLOCK_MONOTONIC does that.
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def reference_of(order_id: int) -> str:
    """Our stable name for an order towards every provider."""
    return f"order-{order_id}"


def boot_clock() -> float:
    """Seconds since the machine started, sleep included."""
    return time.clock_gettime(_BOOT_CLOCK)


@dataclass(frozen=True, slots=True)
class Intent:
    """An attempt on file, about to be sent."""

    attempt_id: int
    profile_id: int
    order_id: int
    order: PreparedOrder
    requested_by: str
    entry: Entry
    """Its line in the intent journal."""
    circuit: Standing = field(default_factory=Standing)
    declared_at: float = field(default_factory=boot_clock)
    """On the boot clock, a moment before the commit."""

    def may_send(self) -> bool:
        return boot_clock() - self.declared_at <= SEND_WITHIN_S


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Another call for this order is being made, here or on another machine."""

    attempt_id: int


@dataclass(frozen=True, slots=True)
class AlreadyProvisioned:
    """There is nothing left to buy."""


_open_attempt_id = (
    select(ProvisioningAttempt.id)
    .where(ProvisioningAttempt.profile_id == EsimProfile.id, ProvisioningAttempt.outcome.is_(None))
    .scalar_subquery()
)
_accepted_attempt_id = (
    select(func.max(ProvisioningAttempt.id))
    .where(ProvisioningAttempt.profile_id == EsimProfile.id, ProvisioningAttempt.outcome == "accepted")
    .scalar_subquery()
)
STANDING: tuple[Any, ...] = (
    Order.status.label("order_status"),
    EsimProfile.status,
    func.coalesce(_open_attempt_id, _accepted_attempt_id).label("attempt_id"),
)
"""How an order stands, of `orders` joined with `esim_profiles`; see `Looked`."""
_LOOK = Direct(
    select(*STANDING).join(EsimProfile, EsimProfile.order_id == Order.id).where(Order.id == bindparam("order_id"))
)

_LOCK = Direct(
    select(
        Order.status.label("order_status"),
        Order.plan_snapshot,
        Order.customer_email,
        Order.customer_name,
        EsimProfile.id.label("profile_id"),
        EsimProfile.status,
        PlanCode.external_id,
        func.nextval("provisioning_attempts_id_seq").label("new_attempt_id"),
        func.now().label("opened_at"),
        Order.created_at.label("placed_at"),
        func.coalesce(IdempotencyKey.key, "").label("order_key"),
        HELD_SINCE.label("held_since"),
        FORGETS.label("forgets"),
    )
    .join(EsimProfile, EsimProfile.order_id == Order.id)
    .outerjoin(IdempotencyKey, IdempotencyKey.order_id == Order.id)
    .outerjoin(PlanCode, and_(PlanCode.plan_id == Order.plan_id, PlanCode.provider == bindparam("provider")))
    .where(Order.id == bindparam("order_id"))
    .with_for_update(of=[Order, EsimProfile])
)
_OPEN = insert(ProvisioningAttempt).values(
    id=bindparam("attempt_id"),
    profile_id=bindparam("profile_id"),
    provider=bindparam("provider"),
    is_live=bindparam("is_live"),
    reference=bindparam("reference"),
    base_url=bindparam("base_url"),
    partner_id=bindparam("partner_id"),
    request=bindparam("request"),
    is_replay=bindparam("is_replay"),
    requested_by=bindparam("requested_by"),
    deadline_at=func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("deadline_s")),
)
_PROVISIONING = (
    update(EsimProfile)
    .where(EsimProfile.id == bindparam("profile_id"))
    .values(status="provisioning", provider=bindparam("provider"), is_live=bindparam("is_live"), updated_at=func.now())
)
_declare = RECORD.add_cte(_OPEN.cte("opened"), _PROVISIONING.cte("provisioning"))
_DECLARE = Direct(_declare)
"""All that transaction one writes, in one round trip."""
_DECLARE_IN_TURN = in_turn(_declare)
_OPEN_IN_TURN = in_turn(_OPEN)


@dataclass(frozen=True, slots=True)
class Looked:
    """STANDING, a moment ago; the intent's transaction looks again, under its lock."""

    order_status: str
    status: str
    attempt_id: int | None

    @property
    def standing(self) -> UnderWay | AlreadyProvisioned | None:
        """
        None where an attempt may be opened.

        Raises:
            OrderNotPaid, OutcomeStillUnknown: why none may.
        """
        return _standing_of(self.order_status, self.status, self.attempt_id)


async def look(connection: AsyncConnection, order_id: int) -> Looked:
    """
    How an order stands, without locking it.

    Raises:
        NotFound: there is none.
    """
    row = await _LOOK.one_or_none(connection, {"order_id": order_id})
    if row is None:
        raise NotFound
    return Looked(row.order_status, row.status, row.attempt_id)


def _standing_of(order_status: str, status: str, attempt_id: int | None) -> UnderWay | AlreadyProvisioned | None:
    # provisioned_at decides, by way of a constraint: LOCAL leaves provider_reference empty.
    if status == "provisioned":
        return AlreadyProvisioned()
    if status == "unknown":
        raise OutcomeStillUnknown
    if status == "provisioning":
        if attempt_id is None:
            raise RuntimeError("an eSIM is provisioning without an attempt under way")
        return UnderWay(attempt_id)
    if order_status != "paid" or status == "cancelled":
        raise OrderNotPaid
    return None


async def declare_intent(
    connection: AsyncConnection,
    vault: Vault,
    provider: EsimProvider,
    order_id: int,
    *,
    actor: str,
    timeout_s: float,
    last: Entry | None = None,
    heeds_circuit: bool = True,
    caps: Caps | None = None,
) -> Intent | UnderWay | AlreadyProvisioned:
    """
    Puts an attempt on file. The caller commits before it sends.

    Args:
        last: this process's last line in the intent journal: what it sent, a database that forgets it doesn't know either.

    Raises:
        DatabaseForgets: the database doesn't know `last`.
        InstallationHeld: another process found something of the kind.
        NotFound: no such order.
        OrderNotPaid: it was cancelled or refunded.
        OutcomeStillUnknown: an earlier attempt isn't settled.
        ProviderOnHold: the provider asked to wait.
        ProviderPaused: nothing is sent to it for now.
        ProviderBusy: the turn to be counted against a cap didn't come.
        SupplierNotConfigured: a setting or the plan's code is missing.
    """
    reference = reference_of(order_id)
    failpoints.reached(Point.INTENT_BEGUN, reference)
    asked = {"order_id": order_id, "provider": provider.name} | of_line(last)
    row = await _LOCK.one_or_none(connection, asked)
    if row is None:
        raise NotFound
    failpoints.reached(Point.INTENT_LOCKED, reference)
    # Looked at once more rather than selected with the lock: who has waited for a row lock sees the row as it is now,
    # but other tables as they were before (PostgreSQL, READ COMMITTED).
    if row.status not in {"pending", "refused"} or row.order_status != "paid":
        if standing := (await look(connection, order_id)).standing:
            return standing
        raise RuntimeError("an order that is neither open nor settled")
    if row.forgets:
        raise DatabaseForgets
    if row.held_since is not None:
        raise InstallationHeld
    # A statement of its own, for the same reason: the hold may be what the lock was waited for.
    deadline_s = timeout_s + DEADLINE_MARGIN_S
    circuit = await pass_gate(connection, provider.name, heeds_circuit=heeds_circuit, deadline_s=deadline_s)

    prepared = provider.prepare(
        provision_request(
            order_id, row.plan_snapshot, provider.name, row.external_id, row.customer_email, row.customer_name
        )
    )
    opened_at, placed_at, key = row.opened_at, row.placed_at, hash_of(row.order_key)
    entry = Entry(reference, order_id, row.new_attempt_id, opened_at, placed_at, provider.name, key)
    intent = Intent(row.new_attempt_id, row.profile_id, order_id, prepared, actor, entry, circuit)
    attempt = _row_of(vault, intent, provider.name, is_live=provider.is_live, deadline_s=deadline_s, is_replay=False)
    started = audit_entry(
        actor, Tag.ESIM_ACTIVATION_STARTED, "esim_profiles", row.profile_id, attempt_id=intent.attempt_id
    )
    if caps is None:
        await _DECLARE.run(connection, attempt | started)
    else:
        await spend(connection, caps, _DECLARE_IN_TURN, attempt | started)
    failpoints.reached(Point.INTENT_WRITTEN, reference)
    return intent


def provision_request(
    order_id: int,
    snapshot: dict[str, Any],
    provider: str,
    code_of_today: str | None,
    customer_email: str,
    customer_name: str,
) -> ProvisionRequest:
    """
    What a provider is asked for an order.

    Args:
        snapshot: the plan as it was sold.
        code_of_today: the provider's code for the plan in the catalogue, for an order that was sold without one (or at another
            provider).
    """
    return ProvisionRequest(
        order_id=order_id,
        reference=reference_of(order_id),
        plan_code=(snapshot["external_id"] if snapshot["provider"] == provider else None) or code_of_today,
        plan_name=snapshot["name"],
        country_iso2=snapshot["country_iso2"],
        customer_email=customer_email,
        customer_name=customer_name,
    )


async def open_replay(
    connection: AsyncConnection,
    vault: Vault,
    intent: Intent,
    provider: str,
    *,
    is_live: bool,
    deadline_s: float,
    caps: Caps | None,
) -> None:
    """Puts an attempt on file that asks again; the profile's status stays. Raises as `spend`."""
    attempt = _row_of(vault, intent, provider, is_live=is_live, deadline_s=deadline_s, is_replay=True)
    if caps is None:
        await connection.execute(_OPEN, attempt)
    else:
        await spend(connection, caps, _OPEN_IN_TURN, attempt)


async def file_again(connection: AsyncConnection, vault: Vault, intent: Intent, provider: str, is_live: bool) -> Intent:
    """
    An attempt that the database has forgotten (a failover to a standby that hadn't got it), closed as unknown, under a new number.
    """
    filed = replace(intent, attempt_id=await new_attempt_id(connection))
    await connection.execute(
        _OPEN.values(outcome="unknown", problem="activation-outcome-unknown", closed_at=func.now()),
        _row_of(vault, filed, provider, is_live=is_live, deadline_s=0, is_replay=False),
    )
    return filed


async def new_attempt_id(connection: AsyncConnection) -> int:
    attempt_id = await connection.scalar(select(func.nextval("provisioning_attempts_id_seq")))
    assert isinstance(attempt_id, int)  # noqa: S101 - a sequence gives a number
    return attempt_id


def _row_of(
    vault: Vault, intent: Intent, provider: str, *, is_live: bool, deadline_s: float, is_replay: bool
) -> dict[str, Any]:
    return {
        "attempt_id": intent.attempt_id,
        "profile_id": intent.profile_id,
        "provider": provider,
        "is_live": is_live,
        "reference": intent.order.reference,
        "base_url": intent.order.base_url,
        "partner_id": intent.order.partner_id,
        "request": vault.keyring.seal(intent.order.body, attempt_place("request", intent.attempt_id)),
        "is_replay": is_replay,
        "requested_by": intent.requested_by,
        "deadline_s": deadline_s,
    }


def attempt_place(column: str, attempt_id: int) -> Place:
    """Where a sealed column of an attempt stands."""
    return Place(ProvisioningAttempt.__tablename__, column, attempt_id)
