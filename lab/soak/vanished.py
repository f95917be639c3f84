"""Checks at the end that every judged row is still in the table, or archived."""

from __future__ import annotations

from lab.harness.anomaly import Anomaly, What
from persistence.database.pool import Pool, using

__all__ = ["vanished"]

_KEPT = "SELECT count(*) FROM (SELECT id FROM messages UNION SELECT id FROM tombstones) kept"


async def vanished(pool: Pool, judged: int) -> list[Anomaly]:
    """Return a loss for each judged row that is neither in the table nor archived.

    Args:
        pool: Connections to the service's database.
        judged: Number of judged rows. The comparison is right only while no message is under way.
    """
    async with using(pool) as connection:
        kept = await connection.fetchval(_KEPT)
    if kept >= judged:
        return []
    gone = f"{judged - kept} rows are gone since their round was judged, and not archived"
    return [Anomaly(What.LOST, f"row {n}", gone) for n in range(1, judged - kept + 1)]
