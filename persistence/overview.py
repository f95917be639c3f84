"""What the console asks PostgreSQL for once a second, whoever watches: a few small statements."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import msgspec

from persistence.database import Pool, using
from persistence.when import rfc3339

__all__ = ["LetterGroup", "Letters", "letter_groups", "letters"]

_MOST = 100_000
"""Counted no further: a table that full is a figure one knows what to do about."""

_COUNT = f"""
SELECT reason, count(*) AS letters, min(failed_at) AS oldest
FROM (SELECT reason, failed_at FROM dead_letters WHERE state = 'pending' LIMIT {_MOST}) AS waiting
GROUP BY reason ORDER BY count(*) DESC, reason
"""  # noqa: S608 - a constant

# The age in bands; a band's bounds come back, so that what is shown is what an action takes.
_GROUPS = f"""
SELECT reason, band, count(*) AS letters, min(failed_at) AS oldest, max(failed_at) AS newest,
    max(redrives) AS redrives, mode() WITHIN GROUP (ORDER BY error) AS error,
    count(DISTINCT error) AS errors, count(DISTINCT conversation_id) AS conversations
FROM (
    SELECT *, CASE
        WHEN failed_at > now() - interval '1 hour' THEN 'hour'
        WHEN failed_at > now() - interval '1 day' THEN 'day'
        WHEN failed_at > now() - interval '7 days' THEN 'week'
        ELSE 'older' END AS band
    FROM (SELECT * FROM dead_letters WHERE state = 'pending' LIMIT {_MOST}) AS waiting
) AS aged
GROUP BY reason, band ORDER BY max(failed_at) DESC
"""  # noqa: S608 - a constant


class Letters(msgspec.Struct, frozen=True):
    """Pending dead letters: how many, by reason, and since when (RFC 3339, UTC)."""

    pending: int
    by_reason: dict[str, int]
    oldest: str | None


class LetterGroup(msgspec.Struct, frozen=True, rename="camel"):
    """Pending dead letters of one reason and about one age.

    They failed from ``oldest`` on and before ``before``, right after ``newest``. ``error`` is the
    commonest of ``errors`` texts; ``redrives`` the most that one of them was redriven.
    """

    reason: str
    age: str
    letters: int
    oldest: str
    newest: str
    before: str
    redrives: int
    error: str
    errors: int
    conversations: int


async def letters(pool: Pool, *, within: float) -> Letters:
    """Return what waits for a decision.

    Raises:
        Outage, TimeoutError: PostgreSQL can't tell within ``within`` seconds.
    """
    async with using(pool, within=within) as connection:
        rows: list[Any] = await connection.fetch(_COUNT, timeout=within)
    oldest = min((row["oldest"] for row in rows), default=None)
    return Letters(
        sum(row["letters"] for row in rows),
        {row["reason"]: row["letters"] for row in rows},
        rfc3339(oldest) if oldest else None,
    )


async def letter_groups(pool: Pool) -> list[LetterGroup]:
    """Return the pending letters grouped by reason and age, the freshest first.

    Raises:
        Outage: PostgreSQL can't tell now.
    """
    async with using(pool) as connection:
        return [_group(row) for row in await connection.fetch(_GROUPS)]


def _group(row: asyncpg.Record) -> LetterGroup:
    return LetterGroup(
        reason=row["reason"],
        age=row["band"],
        letters=row["letters"],
        oldest=rfc3339(row["oldest"]),
        newest=rfc3339(row["newest"]),
        before=rfc3339(row["newest"] + timedelta(microseconds=1)),
        redrives=row["redrives"],
        error=row["error"],
        errors=row["errors"],
        conversations=row["conversations"],
    )
