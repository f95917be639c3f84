"""The dead letters as an operator handles them: list, read, count, discard (promise 7).

Redriving is :mod:`persistence.redrive`.
"""

from __future__ import annotations

import asyncpg
import msgspec

from persistence.database import Pool, using
from persistence.selection import Selection, where
from persistence.states import LetterState
from persistence.when import rfc3339

__all__ = ["DeadLetterBytes", "DeadLetters", "StoredDeadLetter"]


class StoredDeadLetter(msgspec.Struct, frozen=True, rename="camel"):
    """A dead letter without its bytes. Times are RFC 3339, UTC; ``size`` is the body's, in bytes.

    ``topic``, ``partition`` and ``offset`` are where the record stood in the log ``transport``.
    ``kind`` is ``message``, ``receipt`` or ``unknown``; ``state`` is a
    :class:`persistence.states.LetterState`, and ``settled_*`` say when, by whom and why.
    ``redrives`` is how often the record had been redriven when it failed.
    """

    id: int
    kind: str
    message_id: str | None
    conversation_id: str | None
    reason: str
    error: str
    attempts: int
    redrives: int
    failed_at: str
    state: str
    transport: str
    topic: str
    partition: int
    offset: str
    size: int
    settled_at: str | None
    settled_by: str | None
    settled_why: str | None


class DeadLetterBytes(msgspec.Struct, frozen=True):
    """The record itself, byte for byte. Headers keep their order."""

    key: bytes
    body: bytes
    headers: list[tuple[bytes, bytes]]


_COLUMNS = """id, kind, message_id, conversation_id, reason, error, attempts, redrives, failed_at,
    state, transport, source_topic, source_partition, source_offset, length(body) AS size,
    settled_at, settled_by, settled_why"""


class DeadLetters:
    """Reads and settles dead letters. Every method raises ``Outage`` when PostgreSQL can't."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(
        self,
        selection: Selection | None = None,
        *,
        state: str | None = LetterState.PENDING,
        before: int | None = None,
        limit: int = 100,
    ) -> list[StoredDeadLetter]:
        """Return up to ``limit`` dead letters, newest first.

        ``before`` is the cursor: the last id of the page before. ``state=None`` is any state.
        """
        condition, values = where(
            selection or Selection(), ("state = {}", state), ("id < {}", before)
        )
        sql = f"SELECT {_COLUMNS} FROM dead_letters WHERE {condition} ORDER BY id DESC LIMIT {limit:d}"  # noqa: E501, S608 - values are arguments
        async with using(self._pool) as connection:
            return [_stored(row) for row in await connection.fetch(sql, *values)]

    async def get(self, identifier: int) -> tuple[StoredDeadLetter, DeadLetterBytes] | None:
        """Return one dead letter with its bytes, ``None`` where there is none of that id."""
        sql = f"SELECT {_COLUMNS}, record_key, body, header_names, header_values FROM dead_letters WHERE id = $1"  # noqa: E501, S608 - constants only
        async with using(self._pool) as connection:
            row = await connection.fetchrow(sql, identifier)
        if row is None:
            return None
        headers = list(zip(row["header_names"], row["header_values"], strict=True))
        return _stored(row), DeadLetterBytes(row["record_key"], row["body"], headers)

    async def count(
        self, selection: Selection | None = None, *, state: str | None = LetterState.PENDING
    ) -> dict[str, int]:
        """Return how many there are, by reason."""
        condition, values = where(selection or Selection(), ("state = {}", state))
        sql = f"SELECT reason, count(*) AS letters FROM dead_letters WHERE {condition} GROUP BY reason ORDER BY reason"  # noqa: E501, S608 - values are arguments
        async with using(self._pool) as connection:
            return {row["reason"]: row["letters"] for row in await connection.fetch(sql, *values)}

    async def discard(self, selection: Selection, *, by: str, why: str) -> int:
        """Settle the pending ones of ``selection`` for good; return how many there were.

        They stay listed as discarded, with who and why, and can't be redriven.
        """
        condition, values = where(selection, ("state = {}", LetterState.PENDING))
        n = len(values)
        sql = f"""
            UPDATE dead_letters SET state = ${n + 1}, settled_at = now(),
                settled_by = ${n + 2}, settled_why = ${n + 3}
            WHERE {condition}
        """  # noqa: S608 - values are arguments
        async with using(self._pool) as connection:
            status = await connection.execute(sql, *values, LetterState.DISCARDED, by, why)
        return int(status.rpartition(" ")[2])


def _stored(row: asyncpg.Record) -> StoredDeadLetter:
    message_id, settled_at = row["message_id"], row["settled_at"]
    return StoredDeadLetter(
        id=row["id"],
        kind=row["kind"],
        message_id=str(message_id) if message_id else None,
        conversation_id=row["conversation_id"],
        reason=row["reason"],
        error=row["error"],
        attempts=row["attempts"],
        redrives=row["redrives"],
        failed_at=rfc3339(row["failed_at"]),
        state=row["state"],
        transport=row["transport"],
        topic=row["source_topic"],
        partition=row["source_partition"],
        offset=row["source_offset"],
        size=row["size"],
        settled_at=rfc3339(settled_at) if settled_at else None,
        settled_by=row["settled_by"],
        settled_why=row["settled_why"],
    )
