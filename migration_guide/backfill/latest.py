"""The place through which the latest backfill found two logs equal."""

from __future__ import annotations

from persistence.database.pool import Pool, using
from persistence.tables.states import JobKind

__all__ = ["EQUAL", "latest_place"]

EQUAL = "equal"
"""The name of the place in a job's cursor."""

# However the job ended, its noted place is true. A backfill of a part of the log proves nothing.
_LATEST = f"""
SELECT cursor ->> '{EQUAL}' FROM jobs
WHERE kind = '{JobKind.BACKFILL}' AND request ->> 'source' = $1 AND request ->> 'target' = $2
    AND NOT request ?| ARRAY['since', 'fromRows'] AND (request ? 'everything') = $3
    AND cursor ? '{EQUAL}'
ORDER BY started_at DESC LIMIT 1
"""  # noqa: S608 - constants only


async def latest_place(pool: Pool, source: str, target: str, *, everything: bool) -> str | None:
    """Return the place, as text; ``None`` if no backfill noted one.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        place: str | None = await connection.fetchval(_LATEST, source, target, everything)
    return place
