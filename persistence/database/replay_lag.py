"""How far a standby is behind its primary, by the processes' heartbeats; and whether it is its own.

PostgreSQL's own functions don't tell that of a standby whose replication has ended: it has replayed
all that it received. Heartbeats are written every two seconds, and their times are the primary's.
"""

from __future__ import annotations

from datetime import datetime

from persistence.database.pool import Pool, using

__all__ = ["ANOTHERS", "LATE_SECONDS", "has_anothers_messages", "replay_lag"]

ANOTHERS = "it has the messages of another Crossfade (and knows no log of this one's database)"

LATE_SECONDS = 60.0
"""A standby that is further behind is reported."""

_NEWEST = "SELECT max(seen_at) FROM processes"
_LOGS = "SELECT name, identity FROM log_identities"


async def replay_lag(standby: Pool, primary: Pool, *, within: float) -> float | None:
    """Return by how many seconds of heartbeats a standby is behind; ``None`` if one has none.

    ``within`` is the longest wait for each server, in seconds.

    Raises:
        Outage: one of them does not answer.
    """
    there = await _newest(standby, within)  # first, so that no heartbeat comes in between
    here = await _newest(primary, within)
    return None if here is None or there is None else (here - there).total_seconds()


async def has_anothers_messages(standby: Pool, primary: Pool, *, within: float) -> bool:
    """Return whether a standby is of another service: it knows logs, and none of the primary's.

    ``within`` is the longest wait for each server, in seconds.

    Raises:
        Outage: one of them does not answer.
    """
    there, here = await _logs(standby, within), await _logs(primary, within)
    return bool(there and here) and not there & here


async def _logs(pool: Pool, within: float) -> set[tuple[str, str]]:
    async with using(pool, within=within) as connection:
        rows = await connection.fetch(_LOGS, timeout=within)
    return {(row["name"], row["identity"]) for row in rows}


async def _newest(pool: Pool, within: float) -> datetime | None:
    async with using(pool, within=within) as connection:
        newest: datetime | None = await connection.fetchval(_NEWEST, timeout=within)
        return newest
