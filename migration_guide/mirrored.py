"""The moment since which every process copies a message before it acknowledges it."""

from __future__ import annotations

from datetime import datetime

from persistence.database.pool import Pool, using
from persistence.fleet.log_choice import FIRST_PAIR, choices

__all__ = ["MIRRORED", "mirrored_since"]

MIRRORED = tuple(
    number for number, choice in enumerate(choices(FIRST_PAIR)) if choice.mode == "sync"
)
"""The phases in which both logs have a message before its acknowledgement."""

# While a step out of these phases is under way, or turned back, some process may not copy first.
_SINCE = """
SELECT max(event.at) FROM migration, migration_events AS event
WHERE migration.phase = ANY($1::int[]) AND migration.target = ANY($1::int[])
    AND event.to_phase = ANY($1::int[])
    AND (event.kind IN ('adopted', 'marked')
        OR event.kind = 'completed' AND event.from_phase <> ALL($1::int[]))
    AND NOT EXISTS (
        SELECT FROM migration_events AS later WHERE later.kind = 'unmarked' AND later.id > event.id
    )
"""


async def mirrored_since(pool: Pool, *, within: float | None = None) -> float | None:
    """Return that moment, in seconds since the epoch; ``None`` if processes don't copy first now.

    ``within`` bounds, in seconds, the wait for a connection.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool, within=within) as connection:
        since: datetime | None = await connection.fetchval(_SINCE, list(MIRRORED))
    return since.timestamp() if since else None
