"""Jobs as rows of ``jobs``, for any process to read and change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec

from persistence.database.pool import Connection, Pool, using
from persistence.errors import PersistenceError
from persistence.fleet.leader_lock import is_held
from persistence.jobs.job import Job, JobProgress, NewJob, StalledJob
from persistence.tables.states import UNFINISHED, JobKind, JobState
from persistence.timestamps import rfc3339

__all__ = ["ClaimedJob", "JobExists", "JobRunning", "JobStopped", "JobTable", "stalled"]

_ALONE = 0x6A6F6273
"""The first key of the lock under which a job that runs alone is begun: the letters of "jobs"."""

_POOL_SECONDS = 10.0
"""How long to wait for a free connection before a job is begun."""

# The previous release names no owner: only silence shows that its jobs have stalled.
_STALLED = f"""(state = '{JobState.RUNNING}' AND (abs(extract(epoch FROM now() - seen_at)) > 60
    OR (owner IS NOT NULL AND NOT {is_held("owner")})))"""
_STALLED_JOBS = f"""
SELECT id::text, kind, started_by, done, total,
    abs(extract(epoch FROM now() - seen_at))::float8 AS silent_seconds
FROM jobs WHERE {_STALLED} ORDER BY started_at
"""  # noqa: S608 - constants only
_RESUMABLE = f"""(state = '{JobState.INTERRUPTED}' OR state = '{JobState.FAILED}' OR {_STALLED})"""

_CLAIMED = "id, request, rate, cursor, total, done, failed, counts, started_by"

_BEGIN = f"""
INSERT INTO jobs (id, kind, state, request, rate, total, owner, started_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO NOTHING RETURNING {_CLAIMED}
"""  # noqa: S608 - constants only

_OTHER = f"""
SELECT id FROM jobs
WHERE kind = $1 AND request @> $2::jsonb AND state = '{JobState.RUNNING}' AND NOT {_STALLED}
LIMIT 1
"""  # noqa: S608 - constants only

# A process that only seems dead finds another state in the row, and ends its run.
_FENCE = f"""
UPDATE jobs SET state = '{JobState.INTERRUPTED}', owner = NULL
WHERE kind = $1 AND request @> $2::jsonb AND {_STALLED}
"""  # noqa: S608 - constants only

_SAME = f"""
SELECT id FROM jobs WHERE kind = $1 AND request = $2::jsonb AND {_RESUMABLE}
ORDER BY started_at DESC LIMIT 1
"""  # noqa: S608 - constants only

_RESUME = f"""
UPDATE jobs SET state = $3, owner = $4, rate = coalesce($5, rate), seen_at = now(),
    finished_at = NULL, error = NULL, started_by = coalesce($6, started_by)
WHERE id = $1 AND kind = $2 AND {_RESUMABLE} RETURNING {_CLAIMED}
"""  # noqa: S608 - constants only

# Locks the row: a cancellation waits until the batch in hand is done.
_LOCK = "UPDATE jobs SET seen_at = now() WHERE id = $1 AND owner = $2 AND state = $3"

_NOTE = """
UPDATE jobs SET seen_at = now(), total = $4, done = $5, failed = $6, counts = counts || $7::jsonb,
    cursor = cursor || $8::jsonb, error = $9
WHERE id = $1 AND owner = $2 AND state = $3
"""

_PAUSE = f"""
UPDATE jobs SET seen_at = now(), error = $4
WHERE id = $1 AND owner = $2 AND state = $3 RETURNING {_CLAIMED}
"""  # noqa: S608 - constants only

_FINISH = """
UPDATE jobs SET state = $4, error = $5, finished_at = now(), owner = NULL
WHERE id = $1 AND owner = $2 AND state = $3
"""

_CANCEL = """
UPDATE jobs SET state = $3, finished_at = now(), owner = NULL
WHERE id = $1 AND state = ANY($4::text[]) AND ($2::text IS NULL OR kind = $2)
"""

_SHOWN = f"""
SELECT id, kind, state, request, rate, total, done, failed, counts, error, started_by, started_at,
    finished_at, {_STALLED} AS stalled, {_RESUMABLE} AS resumable
FROM jobs
"""  # noqa: S608 - constants only


class JobRunning(PersistenceError):  # noqa: N818 - a state of the world, not a mistake
    """A job that has to run alone was not started: a similar one runs, whose id is ``id``."""

    def __init__(self, kind: str, identifier: UUID | None) -> None:
        super().__init__(f"another {kind} is running: {identifier or 'it has not begun yet'}")
        self.id = identifier


class JobExists(PersistenceError):  # noqa: N818 - a state of the world, not a mistake
    """The id that the caller chose is that of an earlier job. Remedy: choose another id."""

    def __init__(self, identifier: UUID) -> None:
        super().__init__(f"{identifier} is the id of an earlier job")


class JobStopped(PersistenceError):  # noqa: N818 - a request, not a mistake
    """The job was cancelled, or another process has resumed it. Finished steps stay."""


class ClaimedJob(msgspec.Struct, frozen=True):
    """A job for this process to run, with the progress of earlier runs.

    ``request`` is JSON.
    """

    id: UUID
    request: str
    rate: int
    cursor: dict[str, str]
    progress: JobProgress
    by: str


class JobTable:
    """The table ``jobs``. Every method raises ``Outage`` when PostgreSQL can't answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(self, job: NewJob, owner: str) -> ClaimedJob:
        """Record a new job for ``owner`` to run, or resume the last one with the same request.

        Only a job that has to run alone is resumed in this way.

        Raises:
            JobRunning: it has to run alone, and another one runs.
            JobStopped: ``job.resume`` names a job that can't be resumed any more.
            JobExists: ``job.id`` is the id of an earlier job.
        """
        identifier = job.id or uuid4()
        request = msgspec.json.encode(job.request).decode()
        async with (
            using(self._pool, within=_POOL_SECONDS) as connection,
            connection.transaction(),
        ):
            if job.alone is not None:
                alone = msgspec.json.encode(job.alone).decode()
                # Two that start at once take turns.
                lock = "SELECT pg_advisory_xact_lock($1, hashtext($2))"
                await connection.execute(lock, _ALONE, f"{job.kind} {alone}")
                if other := await connection.fetchval(_OTHER, job.kind, alone):
                    raise JobRunning(job.kind, other)
                await connection.execute(_FENCE, job.kind, alone)
                same = job.resume or await connection.fetchval(_SAME, job.kind, request)
                if same:
                    resumed = await self._resume(
                        connection, same, job.kind, owner, job.rate, job.by
                    )
                    if resumed is not None:
                        return resumed
                    if job.resume:
                        raise JobStopped
            row = await connection.fetchrow(
                _BEGIN, identifier, job.kind, JobState.RUNNING, request, job.rate, job.total, owner,
                job.by,
            )  # fmt: skip
        if row is None:
            raise JobExists(identifier)
        return _claimed(row)

    async def resume(self, identifier: UUID, kind: JobKind, owner: str) -> ClaimedJob | None:
        """Give ``owner`` a job to resume; ``None`` if it does not exist, is over, or runs."""
        async with using(self._pool, within=_POOL_SECONDS) as connection:
            return await self._resume(connection, identifier, kind, owner, None, None)

    async def _resume(
        self,
        connection: Connection,
        identifier: UUID,
        kind: JobKind,
        owner: str,
        rate: int | None,
        by: str | None,
    ) -> ClaimedJob | None:
        row = await connection.fetchrow(
            _RESUME, identifier, kind, JobState.RUNNING, owner, rate, by
        )
        return None if row is None else _claimed(row)

    async def lock(self, connection: Connection, identifier: UUID, owner: str) -> None:
        """Lock the job until the transaction ends, and record that it is alive.

        Raises:
            JobStopped: another process has the job, or it was cancelled.
        """
        status = await connection.execute(_LOCK, identifier, owner, JobState.RUNNING)
        if status != "UPDATE 1":
            raise JobStopped

    async def note(
        self,
        connection: Connection,
        identifier: UUID,
        owner: str,
        progress: JobProgress,
        *,
        cursor: Mapping[str, str],
        error: str | None,
    ) -> None:
        """Write the job's progress.

        Raises:
            JobStopped: another process has the job, or it was cancelled.
        """
        status = await connection.execute(
            _NOTE,
            identifier,
            owner,
            JobState.RUNNING,
            progress.total,
            progress.done,
            progress.failed,
            msgspec.json.encode(progress.counts).decode(),
            msgspec.json.encode(cursor).decode(),
            error,
        )
        if status != "UPDATE 1":
            raise JobStopped

    async def pause(self, identifier: UUID, owner: str, error: str) -> ClaimedJob:
        """Record why a job waits; return its progress as PostgreSQL has it.

        Raises:
            JobStopped: another process has the job, or it was cancelled.
        """
        async with using(self._pool) as connection:
            row = await connection.fetchrow(_PAUSE, identifier, owner, JobState.RUNNING, error)
        if row is None:
            raise JobStopped
        return _claimed(row)

    async def finish(
        self, identifier: UUID, owner: str, state: JobState, error: str | None
    ) -> None:
        """End a job that ``owner`` runs. A job that it no longer runs stays as it is."""
        async with using(self._pool) as connection:
            await connection.execute(_FINISH, identifier, owner, JobState.RUNNING, state, error)

    async def cancel(self, identifier: UUID, kind: JobKind | None = None) -> bool:
        """Cancel a job that is not over, wherever it runs; return whether there was one."""
        async with using(self._pool) as connection:
            status = await connection.execute(
                _CANCEL, identifier, kind, JobState.CANCELLED, UNFINISHED
            )
        return status == "UPDATE 1"

    async def get(self, identifier: UUID, kind: JobKind | None = None) -> Job | None:
        """Return a job (of the kind); ``None`` if there is none."""
        where = "WHERE id = $1 AND ($2::text IS NULL OR kind = $2)"
        async with using(self._pool) as connection:
            row = await connection.fetchrow(f"{_SHOWN} {where}", identifier, kind)
        return _shown(row) if row else None

    async def recent(self, limit: int, kind: JobKind | None = None) -> list[Job]:
        """Return the latest jobs (of the kind), newest first."""
        where = "WHERE $2::text IS NULL OR kind = $2 ORDER BY started_at DESC LIMIT $1"
        async with using(self._pool) as connection:
            rows = await connection.fetch(f"{_SHOWN} {where}", limit, kind)
        return [_shown(row) for row in rows]


async def stalled(connection: Connection) -> list[StalledJob]:
    """Return the jobs that should run, and that no process works on, the oldest first."""
    return [StalledJob(**row) for row in await connection.fetch(_STALLED_JOBS)]


def _claimed(row: asyncpg.Record) -> ClaimedJob:
    counts = msgspec.json.decode(row["counts"], type=dict[str, int])
    return ClaimedJob(
        id=row["id"],
        request=row["request"],
        rate=row["rate"],
        cursor=msgspec.json.decode(row["cursor"], type=dict[str, str]),
        progress=JobProgress(row["total"], row["done"], row["failed"], counts),
        by=row["started_by"],
    )


def _shown(row: asyncpg.Record) -> Job:
    finished_at = row["finished_at"]
    return Job(
        id=str(row["id"]),
        kind=row["kind"],
        state=row["state"],
        stalled=row["stalled"],
        resumable=row["resumable"],
        request=_object(row["request"]),
        rate=row["rate"],
        total=row["total"],
        done=row["done"],
        failed=row["failed"],
        counts=_object(row["counts"]),
        error=row["error"],
        started_by=row["started_by"],
        started_at=rfc3339(row["started_at"]),
        finished_at=rfc3339(finished_at) if finished_at else None,
    )


def _object(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])
