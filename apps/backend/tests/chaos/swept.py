"""Which attempts a recovery sweep has given up, whatever became of them later: the audit trail tells."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text

from app.audit import SYSTEM, Tag
from app.db import Database

_SWEPT = text("""
    SELECT attempt.reference, attempt.partner_id
    FROM audit_log JOIN provisioning_attempts attempt ON attempt.id = (details ->> 'attempt_id')::bigint
    WHERE tag = :tag AND actor = :actor ORDER BY attempt.id
""")


async def swept_attempts(db: Database) -> Sequence[Row[Any]]:
    """Their `reference` and `partner_id`."""
    async with db.read() as connection:
        return (await connection.execute(_SWEPT, {"tag": Tag.ESIM_OUTCOME_UNKNOWN, "actor": SYSTEM})).all()
