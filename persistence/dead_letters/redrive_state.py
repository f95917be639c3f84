"""Redrives as rows of ``redrives``: what any process can read and change about one."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

import asyncpg
import msgspec

from persistence.database.pool import Connection, Pool, using
from persistence.dead_letters.republish import RedriveAttempt
from persistence.dead_letters.selection import Selection, where
from persistence.tables.states import UNFINISHED, LetterState, RunState
from persistence.timestamps import rfc3339

__all__ = ["RedriveProgress", "RedriveState", "Run"]

_STALLED_SECONDS = 60.0

_CREATE = """
INSERT INTO redrives (id, selection, until_id, most_redrives, rate, state, total, started_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

# Locks the row: a second process that runs the same redrive waits, and then finds less to do.
_RUNNING = """
UPDATE redrives SET seen_at = now() WHERE id = $1 AND state = $2
RETURNING id, selection, until_id, most_redrives, rate, started_by
"""

_REOPEN = """
UPDATE redrives SET state = $2, seen_at = now(), finished_at = NULL, error = NULL
WHERE id = $1 AND state = ANY($3::text[])
"""

_FINISH = """
UPDATE redrives SET state = $2, finished_at = now(), error = coalesce($4, error)
WHERE id = $1 AND state = ANY($3::text[])
"""

_SETTLE = """
UPDATE dead_letters SET state = $4, settled_at = now(), settled_by = $2, settled_why = $3
WHERE id = ANY($1::bigint[])
"""

_COUNT = """
UPDATE redrives SET redriven = redriven + $2, failed = failed + $3, error = $4 WHERE id = $1
"""

_PROGRESS = """
SELECT id, state, total, redriven, failed, rate, error, started_by, started_at, seen_at,
    finished_at, abs(extract(epoch FROM now() - seen_at))::float8 AS silent_seconds
FROM redrives
"""


class RedriveProgress(msgspec.Struct, frozen=True, rename="camel"):
    """How far a redrive is. Times are RFC 3339, UTC; ``rate`` is letters a second, 0 unlimited.

    ``state`` is a :class:`persistence.tables.states.RunState`. ``stalled``: it should be running
    and has not been heard of for a minute. ``resumable``: it has work left, and nothing is at work
    on it. ``failed`` letters could not be appended and stay pending; ``error`` is the last one's,
    or what ended the redrive.
    """

    id: str
    state: str
    stalled: bool
    resumable: bool
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
        condition, values = where(selection, ("state = {}", LetterState.PENDING))
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
                _CREATE, identifier, asked, until, most_redrives, rate, RunState.RUNNING, total, by
            )
        return identifier

    async def reopen(self, identifier: UUID) -> bool:
        """Set a redrive that is not over to running; return whether there was one."""
        async with using(self._pool) as connection:
            return (
                await connection.execute(_REOPEN, identifier, RunState.RUNNING, UNFINISHED)
                == "UPDATE 1"
            )

    async def finish(self, identifier: UUID, state: RunState, error: str | None = None) -> bool:
        """End a redrive that runs; return whether there was one.

        One that was interrupted or has failed can still be cancelled. ``error`` is what ended it.
        """
        ending = UNFINISHED if state is RunState.CANCELLED else (RunState.RUNNING,)
        async with using(self._pool) as connection:
            ended = await connection.execute(_FINISH, identifier, state, ending, error)
        return ended == "UPDATE 1"

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
        row = await connection.fetchrow(_RUNNING, identifier, RunState.RUNNING)
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
            ("state = {}", LetterState.PENDING),
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

    async def settle(self, connection: Connection, run: Run, attempt: RedriveAttempt) -> None:
        """Record what became of the letters taken."""
        if attempt.appended:
            why = f"redrive {run.id}"
            await connection.execute(
                _SETTLE, attempt.appended, run.started_by, why, LetterState.REDRIVEN
            )
        await connection.execute(
            _COUNT, run.id, len(attempt.appended), len(attempt.failed), attempt.error
        )


def _progress(row: asyncpg.Record) -> RedriveProgress:
    finished_at = row["finished_at"]
    state = row["state"]
    stalled = state == RunState.RUNNING and row["silent_seconds"] > _STALLED_SECONDS
    return RedriveProgress(
        id=str(row["id"]),
        state=state,
        stalled=stalled,
        resumable=stalled or (state in UNFINISHED and state != RunState.RUNNING),
        total=row["total"],
        redriven=row["redriven"],
        failed=row["failed"],
        rate=row["rate"],
        error=row["error"],
        started_by=row["started_by"],
        started_at=rfc3339(row["started_at"]),
        finished_at=rfc3339(finished_at) if finished_at else None,
    )
