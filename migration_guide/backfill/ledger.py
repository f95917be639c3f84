"""The ledger of a shadow's gaps (``shadow_gaps``): open ones are read, repaired ones closed."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from persistence.database.pool import Pool, using

__all__ = ["close_gaps", "open_gaps"]

# By PostgreSQL's clock alone: that of this machine may be minutes ahead.
_OPEN = """
SELECT id, partition, first_offset, last_offset FROM shadow_gaps
WHERE transport = $1 AND shadow = $2 AND repaired_at IS NULL
    AND noted_at <= now() - make_interval(secs => $3)
"""
_CLOSE = "UPDATE shadow_gaps SET repaired_at = now() WHERE id = ANY($1::bigint[])"


async def open_gaps(pool: Pool, source: str, target: str, age: float) -> Sequence[asyncpg.Record]:
    """Return the gaps that are not repaired, noted at least ``age`` seconds ago."""
    async with using(pool) as connection:
        return await connection.fetch(_OPEN, source, target, age)


async def close_gaps(pool: Pool, gaps: Sequence[int]) -> None:
    """Record that gaps, by their ids, are repaired."""
    async with using(pool) as connection:
        await connection.execute(_CLOSE, gaps)
