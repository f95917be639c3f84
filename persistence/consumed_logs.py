"""Which logs have been consumed at any time, and are not known to be drained.

A worker takes the fence of a partition before it persists anything of it, so a log that has been
consumed has rows in ``fences``.
"""

from __future__ import annotations

from persistence.database import Pool, using

__all__ = ["consumed_logs", "drained", "used"]

_CONSUMED = "SELECT DISTINCT transport FROM fences ORDER BY transport"

_USED = """
SELECT EXISTS (
    SELECT FROM processes WHERE $1 IN (transport, transport_shadow, consume_from)
)
"""

_DRAINED = "DELETE FROM fences WHERE transport = $1"


async def consumed_logs(pool: Pool) -> list[str]:
    """Return the names of the logs that workers have persisted from.

    Raises:
        Outage: PostgreSQL can't tell now.
    """
    async with using(pool) as connection:
        rows = await connection.fetch(_CONSUMED)
    return [row["transport"] for row in rows]


async def used(pool: Pool, transport: str) -> bool:
    """Return whether the settings of any process that is not known to have ended name the log.

    Raises:
        Outage: PostgreSQL can't tell now.
    """
    async with using(pool) as connection:
        return bool(await connection.fetchval(_USED, transport))


async def drained(pool: Pool, transport: str) -> None:
    """Note that nothing is left in the log. Whoever still owns a partition takes its fence anew.

    Raises:
        Outage: PostgreSQL can't do it now.
    """
    async with using(pool) as connection:
        await connection.execute(_DRAINED, transport)
