"""Redrives as rows of ``redrives``: what any process can read and change about one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import msgspec

from persistence.database import Connection, Pool, using
from persistence.redriven import Attempt
from persistence.selection import Selection, where
from persistence.when import rfc3339

__all__ = ["RedriveProgress", "RedriveState", "Run"]

_STALLED_SECONDS = 60.0

_CREATE = """
INSERT INTO redrives (id, selection, until_id, most_redrives, rate, state, total, started_by)
VALUES ($1, $2, $3, $4, $5, 'running', $6, $7)
"""

# Locks the row: a second process that runs the same redrive waits, and then finds less to do.
_RUNNING = """
UPDATE redrives SET seen_at = now() WHERE id = $1 AND state = 'running'
RETURNING id, selection, until_id, most_redrives, rate, started_by
"""

_REOPEN = """
UPDATE redrives SET state = 'running', seen_at = now(), finished_at = NULL
WHERE id = $1 AND state IN ('running', 'interrupted', 'failed')
"""

_FINISH = """
UPDATE redrives SET state = $2, finished_at = now()
WHERE id = $1
    AND (state = 'running' OR ($2 = 'cancelled' AND state IN ('interrupted', 'failed')))
"""

_SETTLE = """
UPDATE dead_letters SET state = 'redriven', settled_at = now(), settled_by = $2, settled_why = $3
WHERE id = ANY($1::bigint[])
"""

_COUNT = """
UPDATE redrives SET redriven = redriven + $2, failed = failed + $3, error = $4 WHERE id = $1
"""

_PROGRESS = """
SELECT id, state, total, redriven, failed, rate, error, started_by, started_at, seen_at,
    finished_at
FROM redrives
"""


class RedriveProgress(msgspec.Struct, frozen=True, rename="camel"):
    """How far a redrive is. Times are RFC 3339, UTC; ``rate`` is letters a second, 0 unlimited.

    ``state`` is ``running``, ``done``, ``cancelled``, ``interrupted`` (its process stopped; resume
    it) or ``failed`` (for a reason not understood, which is logged; resume it). ``stalled``: it
    should be running and has not been heard of for a minute. ``failed`` letters could not be
    appended and stay pending; ``error`` is the last one's.
    """

    id: str
    state: str
    stalled: bool
    total: int
    redriven: int
    failed: int
    rate: int
    error: str | None
    started_by: str
    started_at: str
    finished_at: str | None


class Run(msgspec.Struct, frozen=True):
    """What the runner of a redrive needs to know of it."""

    id: UUID
    selection: Selection
    until_id: int
    most_redrives: int | None
    rate: int
    started_by: str


class RedriveState:
    """The table. Every method raises ``Outage`` when PostgreSQL can't."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def census(
        self, selection: Selection, most_redrives: int | None
    ) -> tuple[int, dict[str, int], int]:
        """Return how many pending letters a redrive would take, by reason, and leave out."""
        condition, values = where(selection, ("state = {}", "pending"))
        allowed = f"(${len(values) + 1}::int IS NULL OR redrives < ${len(values) + 1})"
        sql = f"""
            SELECT reason, count(*) FILTER (WHERE {allowed}) AS taken, count(*) AS letters
            FROM dead_letters WHERE {condition} GROUP BY reason ORDER BY reason
        """  # noqa: S608 - values are arguments
        async with using(self._pool) as connection:
            rows = await connection.fetch(sql, *values, most_redrives)
        by_reason = {row["reason"]: row["taken"] for row in rows if row["taken"]}
        taken = sum(by_reason.values())
        return taken, by_reason, sum(row["letters"] for row in rows) - taken

    async def create(
        self, selection: Selection, by: str, rate: int, most_redrives: int | None
    ) -> UUID:
        """Record a new redrive of what is pending now; return its id."""
        identifier = uuid4()
        total, _, _ = await self.census(selection, most_redrives)
        asked = msgspec.json.encode(selection).decode()
        async with using(self._pool) as connection:
            until = await connection.fetchval("SELECT coalesce(max(id), 0) FROM dead_letters")
            await connection.execute(
                _CREATE, identifier, asked, until, most_redrives, rate, total, by
            )
        return identifier

    async def reopen(self, identifier: UUID) -> bool:
        """Set a redrive that is not over to running; return whether there was one."""
        async with using(self._pool) as connection:
            return await connection.execute(_REOPEN, identifier) == "UPDATE 1"

    async def finish(self, identifier: UUID, state: str) -> bool:
        """End a redrive that is not over; return whether there was one."""
        async with using(self._pool) as connection:
            return await connection.execute(_FINISH, identifier, state) == "UPDATE 1"

    async def progress(self, identifier: UUID) -> RedriveProgress | None:
        """Return how far it is, ``None`` for an unknown id."""
        async with using(self._pool) as connection:
            row = await connection.fetchrow(f"{_PROGRESS} WHERE id = $1", identifier)
        return _progress(row) if row else None

    async def recent(self, limit: int) -> list[RedriveProgress]:
        """Return the latest, newest first."""
        async with using(self._pool) as connection:
            rows = await connection.fetch(f"{_PROGRESS} ORDER BY started_at DESC LIMIT $1", limit)
        return [_progress(row) for row in rows]

    async def running(self, connection: Connection, identifier: UUID) -> Run | None:
        """Lock the redrive and say that it is alive; ``None`` if it is to run no more."""
        row = await connection.fetchrow(_RUNNING, identifier)
        if row is None:
            return None
        selection = msgspec.json.decode(row["selection"], type=Selection)
        return Run(
            row["id"],
            selection,
            row["until_id"],
            row["most_redrives"],
            row["rate"],
            row["started_by"],
        )

    async def take(
        self, connection: Connection, run: Run, after: int, limit: int
    ) -> Sequence[asyncpg.Record]:
        """Lock and return the next pending letters, oldest first."""
        condition, values = where(
            run.selection,
            ("state = {}", "pending"),
            ("id <= {}", run.until_id),
            ("id > {}", after or None),
            ("redrives < {}", run.most_redrives),
        )
        sql = f"""
            SELECT id, message_id, source_partition, record_key, body, header_names,
                header_values, redrives
            FROM dead_letters WHERE {condition} ORDER BY id LIMIT {limit:d}
            FOR UPDATE SKIP LOCKED
        """  # noqa: S608 - values are arguments
        return await connection.fetch(sql, *values)

    async def settle(self, connection: Connection, run: Run, attempt: Attempt) -> None:
        """Record what became of the letters taken."""
        if attempt.appended:
            why = f"redrive {run.id}"
            await connection.execute(_SETTLE, attempt.appended, run.started_by, why)
        await connection.execute(
            _COUNT, run.id, len(attempt.appended), len(attempt.failed), attempt.error
        )


def _progress(row: asyncpg.Record) -> RedriveProgress:
    silent = (datetime.now(UTC) - row["seen_at"]).total_seconds()
    finished_at = row["finished_at"]
    return RedriveProgress(
        id=str(row["id"]),
        state=row["state"],
        stalled=row["state"] == "running" and silent > _STALLED_SECONDS,
        total=row["total"],
        redriven=row["redriven"],
        failed=row["failed"],
        rate=row["rate"],
        error=row["error"],
        started_by=row["started_by"],
        started_at=rfc3339(row["started_at"]),
        finished_at=rfc3339(finished_at) if finished_at else None,
    )
