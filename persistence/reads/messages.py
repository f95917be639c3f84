"""Queries of the HTTP routes. Every function raises ``Outage`` when PostgreSQL can't answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, get_args

import asyncpg
import msgspec

from persistence.database.pool import Pool, using
from persistence.json_types import Small, Time, known
from persistence.tables.columns import MESSAGE, message_of, names
from persistence.timestamps import rfc3339
from transport.message.envelope import Message, ReceiptState

__all__ = [
    "MessageDeadLetter",
    "StoredMessage",
    "StoredPosition",
    "StoredReceipt",
    "conversation",
    "dead_letter_of",
    "dead_lettered",
    "message",
    "positions",
    "receipt_at",
    "receipts",
    "with_rows",
]


class StoredReceipt(msgspec.Struct, frozen=True, rename="camel"):
    """A receipt: a user got or saw a message."""

    user_id: str
    state: Annotated[str, known(*get_args(ReceiptState))]
    at: Time


class StoredMessage(msgspec.Struct, frozen=True, rename="camel"):
    """A message that has a row, and where it came from. Times are RFC 3339, UTC.

    ``seq`` is the reading order within the conversation and the cursor of its pages.
    ``transport`` is ``direct`` (and ``offset`` empty) where no log was involved.
    """

    message: Message
    persisted_at: str
    trace_id: str | None
    seq: int
    transport: str
    partition: int
    offset: str
    attempts: int


class StoredPosition(msgspec.Struct, frozen=True, rename="camel"):
    """Where a message stands in one log. ``offset`` is that log's own text."""

    transport: str
    partition: Small
    offset: str


class MessageDeadLetter(msgspec.Struct, frozen=True, rename="camel"):
    """The dead letter a message became."""

    id: int
    reason: str
    error: str
    attempts: int
    transport: str
    partition: int
    offset: str
    failed_at: str


_WITH_ROWS = "SELECT id::text FROM messages WHERE id = ANY($1::uuid[])"

_COLUMNS = (
    f"{names(MESSAGE)}, fingerprint, created_at, trace_id, seq, transport, partition, log_offset, "
    "attempts"
)

_MESSAGE = f"SELECT {_COLUMNS} FROM messages WHERE id = $1::uuid"  # noqa: S608 - constants only

# A page ends early if its contents or recipients are large. Their sizes are known without reading
# them; that of recipients may be the compressed one. `before` is 0 for the first row, so that no
# page is empty while there are rows.
_PAGE = f"""
SELECT {_COLUMNS}, there FROM (
    SELECT *, count(*) OVER () AS there,
        sum(size) OVER (ORDER BY seq) - size AS before
    FROM (
        SELECT {_COLUMNS}, octet_length(content) + pg_column_size(recipient_ids) AS size
        FROM messages WHERE conversation_id = $1 AND seq > $2
        ORDER BY seq LIMIT $3
    ) AS next
) AS sized WHERE before < $4 ORDER BY seq
"""  # noqa: S608 - constants only

_RECEIPTS = """
SELECT user_id, state, at FROM message_receipts WHERE message_id = $1::uuid
ORDER BY created_at, state, user_id LIMIT $2
"""

RECEIPT = """
SELECT at FROM message_receipts WHERE message_id = $1::uuid AND user_id = $2 AND state = $3
"""

_POSITIONS = """
SELECT transport, partition, log_offset FROM message_positions WHERE message_id = $1::uuid
ORDER BY transport
"""

_LOST = """
SELECT id, reason, error, attempts, transport, source_partition, source_offset, failed_at
FROM dead_letters
WHERE message_id = $1::uuid AND state = 'pending' AND kind <> 'receipt' ORDER BY id LIMIT 1
"""

_LOST_OF = """
SELECT DISTINCT message_id FROM dead_letters
WHERE message_id = ANY($1::uuid[]) AND state = 'pending' AND kind <> 'receipt'
"""


async def message(pool: Pool, message_id: str) -> StoredMessage | None:
    """Return a persisted message; ``None`` if it has no row (yet)."""
    async with using(pool) as connection:
        row = await connection.fetchrow(_MESSAGE, message_id)
    return _stored(row) if row else None


async def with_rows(pool: Pool, message_ids: Sequence[str]) -> set[str]:
    """Return those of ``message_ids`` that are persisted."""
    async with using(pool) as connection:
        return {row[0] for row in await connection.fetch(_WITH_ROWS, message_ids)}


async def conversation(
    pool: Pool, conversation_id: str, after: int | None, limit: int, *, most_bytes: int
) -> tuple[list[StoredMessage], bool]:
    """Return up to ``limit`` messages after the cursor ``after``, and whether there are more.

    They are in the order of promise 3. The page ends with the message whose content and recipients
    make it ``most_bytes`` or more. The next page's cursor is the last one's ``seq``. A page never
    skips a message: within a conversation rows become visible in the order of ``seq``.
    """
    async with using(pool) as connection:
        rows = await connection.fetch(_PAGE, conversation_id, after or 0, limit + 1, most_bytes)
    page = [_stored(row) for row in rows[:limit]]
    return page, bool(rows) and rows[0]["there"] > len(page)


async def receipts(pool: Pool, message_id: str, limit: int) -> list[StoredReceipt]:
    """Return up to ``limit`` of a message's receipts, oldest first."""
    async with using(pool) as connection:
        rows = await connection.fetch(_RECEIPTS, message_id, limit)
    return [StoredReceipt(row["user_id"], row["state"], rfc3339(row["at"])) for row in rows]


async def receipt_at(pool: Pool, message_id: str, user_id: str, state: str) -> str | None:
    """Return the time of this receipt (RFC 3339, UTC); ``None`` if it has no row."""
    async with using(pool) as connection:
        at = await connection.fetchval(RECEIPT, message_id, user_id, state)
    return rfc3339(at) if at is not None else None


async def positions(pool: Pool, message_id: str) -> list[StoredPosition]:
    """Return the known positions of a message in logs that its row did not come from."""
    async with using(pool) as connection:
        rows = await connection.fetch(_POSITIONS, message_id)
    return [StoredPosition(row["transport"], row["partition"], row["log_offset"]) for row in rows]


async def dead_letter_of(pool: Pool, message_id: str) -> MessageDeadLetter | None:
    """Return the oldest pending dead letter of a message; ``None`` if there is none.

    Dead letters of its receipts don't count.
    """
    async with using(pool) as connection:
        row = await connection.fetchrow(_LOST, message_id)
    if row is None:
        return None
    return MessageDeadLetter(
        id=row["id"],
        reason=row["reason"],
        error=row["error"],
        attempts=row["attempts"],
        transport=row["transport"],
        partition=row["source_partition"],
        offset=row["source_offset"],
        failed_at=rfc3339(row["failed_at"]),
    )


async def dead_lettered(
    pool: Pool, message_ids: Sequence[str], *, within: float | None = None
) -> set[str]:
    """Return those of ``message_ids`` that have a pending dead letter.

    ``within`` bounds, in seconds, the wait for a connection and the wait for its answer.
    """
    if not message_ids:
        return set()
    async with using(pool, within=within) as connection:
        rows = await connection.fetch(_LOST_OF, message_ids, timeout=within)
    return {str(row["message_id"]) for row in rows}


def _stored(row: asyncpg.Record) -> StoredMessage:
    return StoredMessage(
        message=message_of(row),
        persisted_at=rfc3339(row["created_at"]),
        trace_id=row["trace_id"],
        seq=row["seq"],
        transport=row["transport"],
        partition=row["partition"],
        offset=row["log_offset"],
        attempts=row["attempts"],
    )
