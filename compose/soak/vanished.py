"""Rows that were there when their round was judged have to be there at the end, or archived."""

from __future__ import annotations

from compose.harness.anomaly import Anomaly, What
from persistence.database.pool import Pool, using

__all__ = ["vanished"]

_KEPT = "SELECT count(*) FROM (SELECT id FROM messages UNION SELECT id FROM tombstones) kept"


async def vanished(pool: Pool, judged: int) -> list[Anomaly]:
    """Return a loss for each judged row that is neither there nor archived.

    The count is right only while no message is under way.
    """
    async with using(pool) as connection:
        kept = await connection.fetchval(_KEPT)
    if kept >= judged:
        return []
    gone = f"{judged - kept} rows are gone since their round was judged, and not archived"
    return [Anomaly(What.LOST, f"row {n}", gone) for n in range(1, judged - kept + 1)]
