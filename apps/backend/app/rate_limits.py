"""
How often somebody may do something: counted in PostgreSQL, so that it holds for all processes together and outlives a restart.

A limit is a token bucket in its leanest form, the generic cell rate algorithm (ITU-T I.371 annex A): a row holds one instant, that
at which the bucket is full again. Of `most` tokens each comes back `per_s / most` seconds after it was taken.
"""

import math
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import RateLimited
from app.vault import Vault

_SLACK_S = 0.001
"""PostgreSQL rounds intervals to microseconds, and `most` of them may be a little longer than `per_s`."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many at once, and as many again spread evenly over `per_s` seconds: never more than twice `most` within `per_s`."""

    name: str
    most: int
    per_s: float


# One statement. Buckets are locked in their own order, so that two who ask for the same ones don't wait for each other.
_TAKE = text(
    """
    WITH asked AS (
        SELECT * FROM unnest(
            CAST(:buckets AS bytea[]), CAST(:gaps_s AS double precision[]), CAST(:rooms_s AS double precision[])
        ) AS asked(bucket, gap_s, room_s)
    ), taken AS (
        INSERT INTO rate_limits AS held (bucket, free_at)
        SELECT bucket, statement_timestamp() + make_interval(secs => gap_s) FROM asked ORDER BY bucket
        ON CONFLICT (bucket) DO UPDATE
        SET free_at = greatest(held.free_at, statement_timestamp()) + (excluded.free_at - statement_timestamp())
        WHERE greatest(held.free_at, statement_timestamp()) + (excluded.free_at - statement_timestamp())
            <= statement_timestamp() + (SELECT make_interval(secs => room_s) FROM asked WHERE asked.bucket = excluded.bucket)
        RETURNING bucket
    )
    SELECT count(*) AS refused, coalesce(max(
        extract(epoch FROM held.free_at - statement_timestamp()) + asked.gap_s - asked.room_s
    ), 1) AS wait_s
    FROM asked LEFT JOIN rate_limits held ON held.bucket = asked.bucket
    WHERE NOT EXISTS (SELECT 1 FROM taken WHERE taken.bucket = asked.bucket)
    """
)
_FORGET = text("DELETE FROM rate_limits WHERE free_at < now()")


async def take(connection: AsyncConnection, vault: Vault, *asked: tuple[Limit, str]) -> None:
    """
    Takes one token out of each bucket: in a transaction that is rolled back by the error, out of all or out of none.

    Args:
        asked: a limit, and whom it is for (an address, a client, a key). Of that a keyed fingerprint is kept.

    Raises:
        RateLimited: one of them is empty. `Retry-After` is when it no longer is, if nobody else takes from it.
    """
    values = {
        "buckets": [vault.fingerprint("rate limit", f"{limit.name}:{whom}") for limit, whom in asked],
        "gaps_s": [limit.per_s / limit.most for limit, _ in asked],
        "rooms_s": [limit.per_s + _SLACK_S for limit, _ in asked],
    }
    row = (await connection.execute(_TAKE, values)).one()
    if row.refused:
        raise RateLimited(retry_after_s=max(1, math.ceil(row.wait_s)))


async def forget_full_buckets(connection: AsyncConnection) -> None:
    """A full bucket is as good as none."""
    await connection.execute(_FORGET)
