"""The console's statements: run each second, once for all watchers."""

from __future__ import annotations

from typing import Any

import msgspec

from persistence.database.pool import Pool, using
from persistence.json_types import Time
from persistence.timestamps import rfc3339

__all__ = ["Letters", "letters"]

_MOST = 100_000
"""Letters are counted up to this number: beyond it, the exact figure changes nothing."""

_COUNT = f"""
SELECT reason, count(*) AS letters, min(failed_at) AS oldest
FROM (SELECT reason, failed_at FROM dead_letters WHERE state = 'pending' LIMIT {_MOST}) AS waiting
GROUP BY reason ORDER BY count(*) DESC, reason
"""  # noqa: S608 - a constant


class Letters(msgspec.Struct, frozen=True, rename="camel"):
    """Dead letters that wait for a decision."""

    pending: int
    by_reason: dict[str, int]
    oldest: Time | None


async def letters(pool: Pool, *, within: float) -> Letters:
    """Return counts of the dead letters that wait for a decision.

    Raises:
        Outage, TimeoutError: PostgreSQL can't answer within ``within`` seconds.
    """
    async with using(pool, within=within) as connection:
        rows: list[Any] = await connection.fetch(_COUNT, timeout=within)
    oldest = min((row["oldest"] for row in rows), default=None)
    return Letters(
        sum(row["letters"] for row in rows),
        {row["reason"]: row["letters"] for row in rows},
        rfc3339(oldest) if oldest else None,
    )
