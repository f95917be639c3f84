"""Backfills as rows of ``backfills``: what any process can read and change about one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import msgspec

from persistence.database.pool import Pool, using
from persistence.tables.states import UNFINISHED, RunState
from persistence.timestamps import rfc3339

__all__ = ["BackfillProgress", "BackfillState", "Begun", "Cancelled"]

_STALLED_SECONDS = 60.0

# Only one run at a time holds the lock of its target, so an unfinished row is nobody's work.
_TAKE_UP = """
UPDATE backfills SET state = $6, seen_at = now(), rate = $5, error = NULL
WHERE id = (
    SELECT id FROM backfills
    WHERE source = $1 AND target = $2 AND from_rows = $3 AND since IS NOT DISTINCT FROM $4
        AND state = ANY($7::text[])
    ORDER BY started_at DESC LIMIT 1
)
RETURNING id, cursor, appended, present
"""

_CREATE = """
INSERT INTO backfills (id, source, target, from_rows, since, state, rate, started_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

_NOTE = """
UPDATE backfills SET seen_at = now(), cursor = cursor || $2::jsonb, examined = $3, missing = $4,
    appended = $5, present = $6, error = $7
WHERE id = $1 AND state = $8
"""

_FINISH = """
UPDATE backfills SET state = $2, finished_at = now(), error = coalesce($3, error)
WHERE id = $1 AND state = ANY($4::text[])
"""

_PROGRESS = """
SELECT id, source, target, from_rows, state, rate, examined, missing, appended, present, error,
    started_by, started_at, seen_at, finished_at,
    abs(extract(epoch FROM now() - seen_at))::float8 AS silent_seconds
FROM backfills
"""

_GAPS = """
SELECT id, partition, first_offset, last_offset FROM shadow_gaps
WHERE transport = $1 AND shadow = $2 AND repaired_at IS NULL AND noted_at <= $3
"""

_REPAIRED = "UPDATE shadow_gaps SET repaired_at = now() WHERE id = ANY($1::bigint[])"


class Begun(msgspec.Struct, frozen=True):
    """A run, and what earlier runs of the same backfill had done."""

    id: UUID
    cursor: dict[str, str] = {}
    appended: int = 0
    present: int = 0


class Cancelled(Exception):  # noqa: N818 - a request, not a mistake
    """Somebody cancelled the backfill. What was appended stays."""


class BackfillProgress(msgspec.Struct, frozen=True, rename="camel"):
    """How far a backfill is; see :class:`persistence.tables.parity.BackfillRow`.

    ``state`` is a :class:`persistence.tables.states.RunState`; the next backfill like it takes up
    one that was interrupted or has failed. ``stalled``: it should be running and has not been heard
    of for a minute.
    """

    id: str
    source: str
    target: str
    from_rows: bool
    state: str
    stalled: bool
    rate: int
    examined: int
    missing: int
    appended: int
    present: int
    error: str | None
    started_by: str
    started_at: str
    finished_at: str | None


class BackfillState:
    """The table. Every method raises ``Outage`` when PostgreSQL can't."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(
        self,
        source: str,
        target: str,
        *,
        from_rows: bool,
        since: datetime | None,
        rate: int,
        by: str,
    ) -> Begun:
        """Take up the last one like this that did not end, or make a new one."""
        async with using(self._pool) as connection:
            row = await connection.fetchrow(
                _TAKE_UP, source, target, from_rows, since, rate, RunState.RUNNING, UNFINISHED
            )
            if row is not None:
                cursor = msgspec.json.decode(row["cursor"], type=dict[str, str])
                return Begun(row["id"], cursor, row["appended"], row["present"])
            identifier = uuid4()
            await connection.execute(
                _CREATE, identifier, source, target, from_rows, since, RunState.RUNNING, rate, by
            )
        return Begun(identifier)

    async def note(
        self,
        identifier: UUID,
        *,
        cursor: dict[str, str],
        examined: int,
        missing: int,
        appended: int,
        present: int,
        error: str | None,
    ) -> None:
        """Write how far it is.

        Raises:
            Cancelled: it is to stop.
        """
        async with using(self._pool) as connection:
            status = await connection.execute(
                _NOTE,
                identifier,
                msgspec.json.encode(cursor).decode(),
                examined,
                missing,
                appended,
                present,
                error,
                RunState.RUNNING,
            )
        if status != "UPDATE 1":
            raise Cancelled

    async def finish(self, identifier: UUID, state: RunState, error: str | None = None) -> bool:
        """End a backfill that is not over; return whether there was one."""
        async with using(self._pool) as connection:
            return (
                await connection.execute(_FINISH, identifier, state, error, UNFINISHED)
                == "UPDATE 1"
            )

    async def progress(self, identifier: UUID) -> BackfillProgress | None:
        """Return how far it is, ``None`` for an unknown id."""
        async with using(self._pool) as connection:
            row = await connection.fetchrow(f"{_PROGRESS} WHERE id = $1", identifier)
        return _progress(row) if row else None

    async def recent(self, limit: int) -> list[BackfillProgress]:
        """Return the latest, newest first."""
        async with using(self._pool) as connection:
            rows = await connection.fetch(f"{_PROGRESS} ORDER BY started_at DESC LIMIT $1", limit)
        return [_progress(row) for row in rows]

    async def gaps(self, source: str, target: str, until: float) -> Sequence[asyncpg.Record]:
        """Return the ledger's gaps that are not repaired, noted before ``until``."""
        moment = datetime.fromtimestamp(until, UTC)
        async with using(self._pool) as connection:
            return await connection.fetch(_GAPS, source, target, moment)

    async def repaired(self, gaps: Sequence[int]) -> None:
        """Note in the ledger that gaps are no more."""
        async with using(self._pool) as connection:
            await connection.execute(_REPAIRED, gaps)


def _progress(row: asyncpg.Record) -> BackfillProgress:
    finished_at = row["finished_at"]
    return BackfillProgress(
        id=str(row["id"]),
        source=row["source"],
        target=row["target"],
        from_rows=row["from_rows"],
        state=row["state"],
        stalled=row["state"] == RunState.RUNNING and row["silent_seconds"] > _STALLED_SECONDS,
        rate=row["rate"],
        examined=row["examined"],
        missing=row["missing"],
        appended=row["appended"],
        present=row["present"],
        error=row["error"],
        started_by=row["started_by"],
        started_at=rfc3339(row["started_at"]),
        finished_at=rfc3339(finished_at) if finished_at else None,
    )
