"""Find the messages that are rows or dead letters by now, with the time."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from persistence.database.pool import Pool, using
from persistence.timestamps import rfc3339

__all__ = ["MessageOutcome", "message_outcomes"]

OUTCOMES = """
SELECT id AS message_id, created_at AS at, NULL AS reason FROM messages WHERE id = ANY($1::uuid[])
UNION ALL
SELECT message_id, failed_at, reason FROM dead_letters
WHERE message_id = ANY($1::uuid[]) AND state = 'pending' AND kind = 'message'
"""


class MessageOutcome(msgspec.Struct, frozen=True):
    """Outcome of a message, and its time (RFC 3339). ``reason`` is a dead letter's."""

    message_id: str
    at: str
    reason: str | None


async def message_outcomes(pool: Pool, message_ids: Sequence[str]) -> list[MessageOutcome]:
    """Return the outcomes of the messages that have one.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        rows = await connection.fetch(OUTCOMES, message_ids)
    return [
        MessageOutcome(str(row["message_id"]), rfc3339(row["at"]), row["reason"]) for row in rows
    ]
