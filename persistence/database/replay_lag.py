"""How far a standby is behind its primary, by the processes' heartbeats.

PostgreSQL's own functions don't tell that of a standby whose replication has ended: it has replayed
all that it received. Heartbeats are written every two seconds, and their times are the primary's.
"""

from __future__ import annotations

from datetime import datetime

from persistence.database.pool import Pool, using

__all__ = ["LATE_SECONDS", "replay_lag"]

LATE_SECONDS = 60.0
"""A standby that is further behind is reported."""

_NEWEST = "SELECT max(seen_at) FROM processes"


async def replay_lag(standby: Pool, primary: Pool, *, within: float) -> float | None:
    """Return by how many seconds of heartbeats a standby is behind; ``None`` if one has none.

    ``within`` is the longest wait for each server, in seconds.

    Raises:
        Outage: one of them does not answer.
    """
    there = await _newest(standby, within)  # first, so that no heartbeat comes in between
    here = await _newest(primary, within)
    return None if here is None or there is None else (here - there).total_seconds()


async def _newest(pool: Pool, within: float) -> datetime | None:
    async with using(pool, within=within) as connection:
        newest: datetime | None = await connection.fetchval(_NEWEST, timeout=within)
        return newest
