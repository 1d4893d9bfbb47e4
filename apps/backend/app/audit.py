"""What was done, by whom: a row in the same transaction as the act."""

from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.contextvars import get_contextvars

from app.models import AuditEntry

SYSTEM = "system"
"""The actor of what Tribi does by itself."""


class Tag(StrEnum):
    """Every noteworthy act. A closed list: what isn't here can't be recorded."""

    CATALOGUE_IMPORTED = "catalogue.imported"
    KEY_CREATED = "keys.created"
    KEY_REVOKED = "keys.revoked"
    CODE_SENT = "travellers.code_sent"
    CODE_REFUSED = "travellers.code_refused"
    SIGNED_IN = "travellers.signed_in"
    SIGNED_OUT = "travellers.signed_out"
    SIGNED_OUT_EVERYWHERE = "travellers.signed_out_everywhere"
    ORDER_PLACED = "orders.placed"
    ORDER_CANCELLED = "orders.cancelled"
    ORDER_ADDRESS_CORRECTED = "orders.address_corrected"
    ESIM_ACTIVATION_STARTED = "esims.activation_started"
    ESIM_PROVISIONED = "esims.provisioned"
    ESIM_ACCEPTED = "esims.accepted"
    ESIM_REFUSED = "esims.activation_refused"
    ESIM_NOT_SENT = "esims.activation_not_sent"
    ESIM_HELD_OFF = "esims.activation_held_off"
    ESIM_OUTCOME_UNKNOWN = "esims.outcome_unknown"
    ESIM_SURPLUS = "esims.surplus"
    ESIM_REPLAYED = "esims.replayed"
    ESIM_RESOLVED_ISSUED = "esims.resolved_issued"
    ESIM_RESOLVED_NOT_ISSUED = "esims.resolved_not_issued"
    ESIM_VIEWED = "esims.viewed"
    ESIM_PAGE_MADE = "esims.page_made"
    ESIM_PAGE_WITHDRAWN = "esims.page_withdrawn"
    ESIM_RESENT = "esims.resent"
    ESIM_FORGOTTEN = "esims.forgotten"
    ESIM_PROFILE_STATE_CHANGED = "esims.profile_state_changed"
    ESIM_PLAN_STATE_CHANGED = "esims.plan_state_changed"
    ESIM_USAGE_TOLD = "esims.usage_told"
    INSTALLATION_HELD = "installation.held"
    INSTALLATION_RECOVERED = "installation.recovered"
    CIRCUIT_OPENED = "providers.circuit_opened"
    CIRCUIT_CLOSED = "providers.circuit_closed"
    PROVIDER_PAUSED = "providers.paused"
    PROVIDER_RESUMED = "providers.resumed"
    PROVIDER_EVENTS_VIEWED = "providers.events_viewed"
    WEBHOOK_ADDED = "webhooks.added"
    WEBHOOK_CHANGED = "webhooks.changed"
    WEBHOOK_REMOVED = "webhooks.removed"
    WEBHOOK_DISABLED = "webhooks.disabled"
    WEBHOOK_SECRET_ROTATED = "webhooks.secret_rotated"  # noqa: S105 - a name
    WEBHOOK_REDELIVERED = "webhooks.redelivered"
    ENCRYPTION_KEY_ROTATED = "secrets.rotated"
    ENCRYPTION_KEY_FORGOTTEN = "secrets.key_forgotten"


RECORD = insert(AuditEntry).values(
    actor=bindparam("actor"),
    tag=bindparam("tag"),
    subject_type=bindparam("subject_type"),
    subject_id=bindparam("subject_id"),
    details=bindparam("details"),
    request_id=bindparam("request_id"),
)
"""Takes an `entry`; where it counts, in one statement with the act (`add_cte`)."""


def entry(
    actor: str,
    tag: Tag,
    subject_type: str,
    subject_id: int | None,
    **details: Any,  # noqa: ANN401 - whatever JSON says of the act
) -> dict[str, Any]:
    """
    Args:
        actor: `key:<id>`, `traveller:<id>`, `cli:<login name>`, `provider:<name>` or SYSTEM.
        subject_type: a table's name.
        details: JSON values; never a code, a number of a card or an address.
    """
    return {
        "actor": actor,
        "tag": tag.value,
        "subject_type": subject_type,
        "subject_id": subject_id,
        "details": details,
        "request_id": get_contextvars().get("request_id"),
    }


async def record(
    connection: AsyncConnection,
    actor: str,
    tag: Tag,
    subject_type: str,
    subject_id: int | None,
    **details: Any,  # noqa: ANN401 - as in `entry`
) -> None:
    """Arguments as of `entry`."""
    await connection.execute(RECORD, entry(actor, tag, subject_type, subject_id, **details))
