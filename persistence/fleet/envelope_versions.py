"""Which processes can't read the records that this version may write.

A process of the release before takes a version 2 envelope for undecodable, and dead-letters it. So
none is written while such a process is known: readers come one release before writers.
"""

from __future__ import annotations

from persistence.database.pool import Pool, using

__all__ = ["outdated_readers"]

_OUTDATED = """
SELECT member, version FROM processes WHERE coalesce(envelope, 1) < $1 ORDER BY started_at, member
"""


async def outdated_readers(
    pool: Pool, envelope: int, *, within: float | None = None
) -> dict[str, str]:
    """Return the version of each process that reads no envelope of this version, by member.

    One that is missing counts: it may be cut off, and at work.

    Raises:
        Outage: PostgreSQL can't tell now.
    """
    async with using(pool, within=within) as connection:
        rows = await connection.fetch(_OUTDATED, envelope, timeout=within)
    return {row["member"]: row["version"] for row in rows}
