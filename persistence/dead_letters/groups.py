"""Pending dead letters grouped by cause: a page of groups, each read only up to a bound.

No query reads every letter. For each cause the index is searched anew, and the letters of a cause
are counted in the index alone, up to ``COUNTED``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from persistence.database.pool import Pool, using
from persistence.json_types import Time
from persistence.timestamps import rfc3339

__all__ = ["COUNTED", "SAMPLED", "CauseGroups", "LetterGroup", "letter_groups"]

COUNTED = 10_000
"""How many letters of a group are counted; beyond that, only that there are more is reported."""
SAMPLED = 1_000
"""How many of a group's latest letters are read to count their conversations."""

# Row comparisons, with every column of the index in the order: no other index gives this order, so
# the planner takes this one even for a cause that its statistics don't have.
_WAITING = "FROM dead_letters WHERE state = 'pending'"
_NEXT = "AND cause IS NOT NULL AND (reason, cause) > {} ORDER BY reason, cause LIMIT 1"
_OF_GROUP = f"""{_WAITING} AND (reason, cause) >= (one.reason, one.cause)
        AND (reason, cause) <= (one.reason, one.cause)"""

_GROUPS = f"""
WITH RECURSIVE one (reason, cause, number) AS (
    (SELECT reason, cause, 1 {_WAITING} {_NEXT.format("($1::text, $2::text)")})
    UNION ALL
    SELECT next.reason, next.cause, one.number + 1
    FROM one CROSS JOIN LATERAL (
        SELECT reason, cause {_WAITING} {_NEXT.format("(one.reason, one.cause)")}
    ) AS next
    WHERE one.number < $3
)
SELECT one.reason, one.cause, counted.letters, least(counted.oldest, first.failed_at) AS oldest,
    counted.newest, counted.redrives, latest.id AS latest, latest.error, sampled.conversations
FROM one
CROSS JOIN LATERAL (
    SELECT count(*) AS letters, min(failed_at) AS oldest, max(failed_at) AS newest,
        max(redrives) AS redrives, array_agg(id) AS ids
    FROM (SELECT id, failed_at, redrives {_OF_GROUP}
        ORDER BY reason DESC, cause DESC, id DESC LIMIT {COUNTED + 1}) AS waiting
) AS counted
CROSS JOIN LATERAL (
    SELECT failed_at {_OF_GROUP} ORDER BY reason, cause, id LIMIT 1
) AS first
JOIN dead_letters AS latest ON latest.id = counted.ids[1]
CROSS JOIN LATERAL (
    SELECT count(DISTINCT conversation_id) AS conversations FROM dead_letters
    WHERE id = ANY (counted.ids[:{SAMPLED}])
) AS sampled
ORDER BY one.number
"""  # noqa: S608 - constants only

_PLACE = "SELECT reason, cause FROM dead_letters WHERE id = $1"

_UNGROUPED = f"""
SELECT count(*) FROM (SELECT id {_WAITING} AND cause IS NULL LIMIT {COUNTED + 1}) AS waiting
"""  # noqa: S608 - constants only


class LetterGroup(msgspec.Struct, frozen=True, rename="camel"):
    """Pending dead letters of one reason and one cause, which select them for an action.

    ``cause`` is the error without the parts that differ between letters; ``error`` is the whole
    error of the letter ``latest``. At most 10,000 letters are counted; ``more`` is true if there
    are more. ``conversations`` counts those of the latest 1,000 letters. ``oldest`` and ``newest``
    are the times of the first and the last failure.
    """

    reason: str
    cause: str
    letters: int
    more: bool
    oldest: Time
    newest: Time
    redrives: int
    """The highest number of redrives among the counted letters."""
    error: str
    latest: int
    conversations: int


class CauseGroups(msgspec.Struct, frozen=True, rename="camel"):
    """A page of groups in the order of reason and cause.

    ``next`` is the cursor if there are more groups: a letter of the last group. ``ungrouped``
    counts letters without a cause yet, up to the same limit.
    """

    items: list[LetterGroup]
    next: int | None
    ungrouped: int


async def letter_groups(pool: Pool, *, after: int | None = None, limit: int = 25) -> CauseGroups:
    """Return up to ``limit`` groups after the group of the letter ``after``.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        place = await connection.fetchrow(_PLACE, after) if after is not None else None
        reason, cause = (place["reason"], place["cause"] or "") if place else ("", "")
        rows = await connection.fetch(_GROUPS, reason, cause, limit + 1)
        ungrouped = await connection.fetchval(_UNGROUPED)
    items = [_group(row) for row in rows[:limit]]
    return CauseGroups(items, items[-1].latest if len(rows) > limit else None, ungrouped)


def _group(row: Any) -> LetterGroup:
    return LetterGroup(
        reason=row["reason"],
        cause=row["cause"],
        letters=min(row["letters"], COUNTED),
        more=row["letters"] > COUNTED,
        oldest=rfc3339(row["oldest"]),
        newest=rfc3339(row["newest"]),
        redrives=row["redrives"],
        error=row["error"],
        latest=row["latest"],
        conversations=row["conversations"],
    )
