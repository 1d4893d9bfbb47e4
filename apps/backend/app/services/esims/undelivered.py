"""Who has bought an eSIM and got no message: the mail server has refused it for good."""

from typing import Final

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from app.models import EsimProfile, OutgoingMail

REFUSED_WITHIN: Final = "30 days"
"""Later nobody waits for it any more."""

_INSTALLING: Final = ("instructions", "resend")
_Later = aliased(OutgoingMail)
_REFUSED = select(OutgoingMail.profile_id).where(
    OutgoingMail.refused_at > func.now() - text(f"interval '{REFUSED_WITHIN}'"),
    OutgoingMail.kind.in_(_INSTALLING),
    ~select(_Later.id)
    .where(_Later.profile_id == OutgoingMail.profile_id, _Later.kind.in_(_INSTALLING), _Later.id > OutgoingMail.id)
    .exists(),
)
_COUNT = select(func.count()).select_from(_REFUSED.subquery())


def is_undelivered() -> ColumnElement[bool]:
    """True for profiles whose last message with what installs was refused in the last 30 days."""
    return EsimProfile.id.in_(_REFUSED)


async def count_undelivered(connection: AsyncConnection) -> int:
    return await connection.scalar(_COUNT) or 0
