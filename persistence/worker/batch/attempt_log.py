"""Stores every attempt that PostgreSQL refused, so that a message's history is complete.

Only records that failed alone come here: records that are stored at once cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import structlog

from persistence.database.pool import Pool, using
from persistence.errors import PersistenceError
from persistence.timestamps import rfc3339

__all__ = ["AttemptLog", "Failed", "FailedAttempt", "attempts_of"]

_log = structlog.get_logger(__name__)

_INSERT = """
INSERT INTO delivery_attempts
    (message_id, kind, transport, partition, log_offset, attempt, failed_at, error, worker)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::text[], $6::smallint[],
    $7::timestamptz[], $8::text[], $9::text[])
"""
_OF = """
SELECT kind, transport, partition, log_offset, attempt, failed_at, error, worker
FROM delivery_attempts WHERE message_id = $1::uuid ORDER BY id LIMIT 200
"""
_ID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MOST_ATTEMPTS = 32_767  # the largest smallint
# A short limit: meanwhile the partition waits, and has a dead letter to write.
_WITHIN = 1.0


class Failed(msgspec.Struct, frozen=True):
    """A failed attempt: its record, its number, its time and its error."""

    message_id: str
    kind: str
    transport: str
    partition: int
    offset: str
    attempt: int
    failed_at: datetime
    error: str


class FailedAttempt(msgspec.Struct, frozen=True, rename="camel"):
    """A failed attempt as PostgreSQL has it. ``failed_at`` is RFC 3339, UTC."""

    kind: str
    transport: str
    partition: int
    offset: str
    attempt: int
    failed_at: str
    error: str
    worker: str


class AttemptLog:
    """Stores failed attempts. Best effort: it never stops a worker."""

    def __init__(self, pool: Pool, worker: str) -> None:
        self._pool = pool
        self._worker = worker

    async def add(self, failed: Sequence[Failed]) -> None:
        """Store these attempts; if PostgreSQL can't, log a warning and go on."""
        # A record without an id has no history to add to.
        rows = [
            (UUID(attempt.message_id), attempt)
            for attempt in failed
            if _ID.fullmatch(attempt.message_id)
        ]
        if not rows:
            return
        columns = zip(
            *(
                (
                    identifier,
                    attempt.kind,
                    attempt.transport,
                    attempt.partition,
                    attempt.offset,
                    min(attempt.attempt, _MOST_ATTEMPTS),
                    attempt.failed_at,
                    attempt.error.replace("\0", "\ufffd"),
                    self._worker,
                )
                for identifier, attempt in rows
            ),
            strict=True,
        )
        try:
            async with using(self._pool, within=_WITHIN) as connection:
                await connection.execute(_INSERT, *map(list, columns), timeout=_WITHIN)
        except (PersistenceError, TimeoutError) as error:
            _log.warning(
                "Failed attempts not recorded: PostgreSQL failed", count=len(rows), error=str(error)
            )


async def attempts_of(pool: Pool, message_id: str) -> list[FailedAttempt]:
    """Return the failed attempts on a message and its receipts, oldest first.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        rows = await connection.fetch(_OF, message_id)
    return [
        FailedAttempt(
            row["kind"],
            row["transport"],
            row["partition"],
            row["log_offset"],
            row["attempt"],
            rfc3339(row["failed_at"]),
            row["error"],
            row["worker"],
        )
        for row in rows
    ]
