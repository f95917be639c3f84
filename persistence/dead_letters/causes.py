"""Compute causes for dead letters from before causes were kept, or from an older release.

A few letters at a time, each time in a transaction of its own. No caller waits for it, and a letter
that is being redriven is left for the next time.
"""

from __future__ import annotations

from persistence.database.pool import Connection
from persistence.dead_letters.cause import cause_of
from persistence.dead_letters.rows import conversation_in

__all__ = ["give_causes"]

_WITHOUT = """
SELECT id, error, kind, record_key, conversation_id FROM dead_letters
WHERE state = 'pending' AND cause IS NULL ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_GIVE = """
UPDATE dead_letters AS letter SET cause = given.cause, conversation_id = given.conversation_id
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS given (id, cause, conversation_id)
WHERE letter.id = given.id
"""


async def give_causes(connection: Connection, at_once: int) -> int:
    """Give up to ``at_once`` pending letters their cause; return their number."""
    async with connection.transaction():
        rows = await connection.fetch(_WITHOUT, at_once)
        await connection.execute(
            _GIVE,
            [row["id"] for row in rows],
            [cause_of(row["error"]) for row in rows],
            [
                row["conversation_id"]
                or (conversation_in(row["record_key"]) if row["kind"] == "unknown" else None)
                for row in rows
            ],
        )
    return len(rows)
