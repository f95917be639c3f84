"""History of one message in PostgreSQL beyond its row: positions, dead letters, redrives."""

from __future__ import annotations

from typing import Any

import msgspec

from persistence.database.pool import Pool, using
from persistence.timestamps import rfc3339

__all__ = ["Death", "KeptReceipt", "LogPosition", "deaths_of", "places_of", "receipts_of"]

_PLACES = """
SELECT transport, partition, log_offset, appended_at FROM message_positions
WHERE message_id = $1::uuid ORDER BY appended_at
"""
_DEATHS = """
SELECT id, kind, reason, error, attempts, redrives, failed_at, transport, source_partition,
    source_offset, state, settled_at, settled_by, settled_why
FROM dead_letters WHERE message_id = $1::uuid ORDER BY id LIMIT 100
"""
_RECEIPTS = """
SELECT user_id, state, at, created_at FROM message_receipts WHERE message_id = $1::uuid
ORDER BY created_at, state, user_id LIMIT 200
"""


class LogPosition(msgspec.Struct, frozen=True):
    """Where the message stands in a log. ``appended_at`` is that log's clock, RFC 3339, UTC."""

    transport: str
    partition: int
    offset: str
    appended_at: str


class Death(msgspec.Struct, frozen=True):
    """A dead letter of the message, or of one of its receipts, and its outcome."""

    id: int
    kind: str
    reason: str
    error: str
    attempts: int
    redrives: int
    failed_at: str
    transport: str
    partition: int
    offset: str
    state: str
    resolved_at: str | None
    resolved_by: str | None
    resolved_why: str | None


class KeptReceipt(msgspec.Struct, frozen=True):
    """A receipt: when its user sent it, and when it was persisted."""

    user_id: str
    state: str
    at: str
    persisted_at: str


async def places_of(pool: Pool, message_id: str) -> list[LogPosition]:
    """Return a message's positions in logs that its row did not come from.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        rows: list[Any] = await connection.fetch(_PLACES, message_id)
    return [
        LogPosition(
            row["transport"], row["partition"], row["log_offset"], rfc3339(row["appended_at"])
        )
        for row in rows
    ]


async def deaths_of(pool: Pool, message_id: str) -> list[Death]:
    """Return the dead letters of a message and its receipts, oldest first; 100 at most.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        rows: list[Any] = await connection.fetch(_DEATHS, message_id)
    return [
        Death(
            row["id"],
            row["kind"],
            row["reason"],
            row["error"],
            row["attempts"],
            row["redrives"],
            rfc3339(row["failed_at"]),
            row["transport"],
            row["source_partition"],
            row["source_offset"],
            row["state"],
            rfc3339(row["settled_at"]) if row["settled_at"] else None,
            row["settled_by"],
            row["settled_why"],
        )
        for row in rows
    ]


async def receipts_of(pool: Pool, message_id: str) -> list[KeptReceipt]:
    """Return a message's receipts in the order they were persisted; 200 at most.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        rows: list[Any] = await connection.fetch(_RECEIPTS, message_id)
    return [
        KeptReceipt(row["user_id"], row["state"], rfc3339(row["at"]), rfc3339(row["created_at"]))
        for row in rows
    ]
