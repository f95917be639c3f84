"""Redrive: append dead letters to the log again, in order, at a rate, watched and cancellable.

A letter is held by a row lock while its record is published and recorded as redriven in the same
transaction. So a crash in the middle leaves it pending, two redrives never take the same letter,
and nothing has to be cleaned up. A crash may cause a second append. But a message has one row (its
key is unique), so a redrive can't double it (promise 7).

A redrive takes the letters that existed when it began. A record that fails again is a new letter,
which counts its redrives. So a redrive ends, and a selection can leave out letters that were
redriven too often.

It is a job of ``persistence.jobs``.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec

from otel.metrics import Metrics
from persistence.database.pool import Pool, using
from persistence.dead_letters.metrics import DeadLetterMetrics
from persistence.dead_letters.pending import RedriveOrder, census, newest, record_redriven, take
from persistence.dead_letters.republish import republish
from persistence.dead_letters.selection import Selection
from persistence.jobs.job import Job, JobProgress, NewJob
from persistence.jobs.runner import JobRun, JobRunner
from persistence.jobs.table import JobExists
from persistence.json_types import Id, Time, known
from persistence.tables.states import JobKind, JobState
from transport.contract import Transport
from transport.errors import TransportUnavailable

__all__ = ["MOST_REDRIVES", "Preview", "RedriveProgress", "Redriver"]

MOST_REDRIVES = 3
"""A letter that was redriven this often is left out, unless the caller asks for it."""

_SKIP = "skip"
"""A key of the redrive's cursor: letters up to this id were found not to be appendable."""


class Preview(msgspec.Struct, frozen=True, rename="camel"):
    """The preview of a redrive: how many letters it would take, by reason, and leave out."""

    letters: int
    by_reason: dict[str, int]
    redriven_too_often: int


class RedriveProgress(msgspec.Struct, frozen=True, rename="camel"):
    """The progress of a redrive. `stalled`: it should be running, but its process is silent.

    `resumable`: it has work left, and no process works on it.
    """

    id: Id
    state: Annotated[str, known(*JobState)]
    stalled: bool
    resumable: bool
    total: int
    redriven: int
    failed: int
    """Letters that could not be appended, and stay pending."""
    rate: int
    error: str | None
    started_by: str
    started_at: Time
    finished_at: Time | None


class Redriver:
    """Starts redrives in this process; watches and cancels redrives of any process.

    ``transport`` is the primary log. ``close`` interrupts the redrives of this process; they can be
    resumed.
    """

    def __init__(self, pool: Pool, transport: Transport, metrics: Metrics) -> None:
        self._pool = pool
        self._transport = transport
        self._counter = metrics.of(DeadLetterMetrics).redriven
        self._jobs = JobRunner(pool)

    async def preview(
        self, selection: Selection, *, most_redrives: int | None = MOST_REDRIVES
    ) -> Preview:
        """Preview ``start``, without taking any letter.

        Raises:
            Outage: PostgreSQL can't answer now.
        """
        async with using(self._pool) as connection:
            return Preview(*await census(connection, selection, most_redrives))

    async def start(
        self,
        selection: Selection,
        *,
        by: str,
        rate: int = 0,
        most_redrives: int | None = MOST_REDRIVES,
        identifier: UUID | None = None,
    ) -> UUID:
        """Start to redrive the pending letters of ``selection``; return the redrive's id.

        ``rate`` is the limit in letters a second (0: as fast as the log takes them). Letters
        redriven ``most_redrives`` times already are left out; ``None`` leaves out none.
        ``identifier`` is the id, if the caller has chosen one. If the same call was made with it
        before, nothing is started; a redrive whose process has stopped is resumed.

        Raises:
            JobExists: ``identifier`` is the id of another job.
            Outage: PostgreSQL can't do it now; nothing was started.
        """
        async with using(self._pool) as connection:
            total, _, _ = await census(connection, selection, most_redrives)
            order = RedriveOrder(selection, await newest(connection), most_redrives)
        job = NewJob(
            kind=JobKind.REDRIVE, request=order, by=by, rate=rate, total=total, id=identifier
        )
        try:
            return (await self._jobs.start(job, self._step)).id
        except JobExists:
            if identifier is None or not await self._is_begun(identifier, order):
                raise
            await self.resume(identifier)  # its process may have stopped before it could answer
            return identifier

    async def _is_begun(self, identifier: UUID, order: RedriveOrder) -> bool:
        """Return whether the job is a redrive of the same letters."""
        job = await self._jobs.table.get(identifier, JobKind.REDRIVE)
        if job is None:
            return False
        begun = msgspec.convert(job.request, RedriveOrder)
        return (begun.selection, begun.most_redrives) == (order.selection, order.most_redrives)

    async def resume(self, identifier: UUID) -> bool:
        """Resume a redrive; ``False`` if there is none with work left that doesn't run."""
        return await self._jobs.resume(identifier, JobKind.REDRIVE, self._step)

    async def progress(self, identifier: UUID) -> RedriveProgress | None:
        """Return a redrive's progress, wherever it runs; ``None`` for an unknown id."""
        job = await self._jobs.table.get(identifier, JobKind.REDRIVE)
        return _progress(job) if job else None

    async def recent(self, limit: int = 20) -> list[RedriveProgress]:
        """Return the latest redrives, newest first."""
        return [_progress(job) for job in await self._jobs.table.recent(limit, JobKind.REDRIVE)]

    async def cancel(self, identifier: UUID) -> bool:
        """Stop a redrive after the batch in hand; ``False`` if it is over or unknown.

        Letters that were appended stay appended; the others stay pending.
        """
        return await self._jobs.table.cancel(identifier, JobKind.REDRIVE)

    async def wait(self, identifier: UUID) -> None:
        """Wait until a redrive that runs in this process has ended here."""
        await self._jobs.wait(identifier)

    async def close(self) -> None:
        """Stop this process's redrives after the batch in hand. Any process can resume them."""
        await self._jobs.close()

    async def _step(self, run: JobRun) -> bool:
        """Redrive one batch in one transaction."""
        order = msgspec.json.decode(run.request, type=RedriveOrder)
        await run.rate.spend(run.rate.at_once, run.stop)
        if run.stop.is_set():
            return True
        async with using(self._pool) as connection, connection.transaction():
            await run.lock(connection)
            after = int(run.cursor.get(_SKIP, "0"))
            letters = await take(connection, order, after, run.rate.at_once)
            if not letters:
                return False
            attempt = await republish(self._transport, letters)
            why = f"redrive {run.id}"
            await record_redriven(connection, attempt.appended, by=run.by, why=why)
            # While letters wait, the failed ones among them are tried again too, and count then.
            passed = [] if attempt.waiting else attempt.failed
            progress = JobProgress(
                run.progress.total,
                run.progress.done + len(attempt.appended),
                run.progress.failed + len(passed),
            )
            cursor = {_SKIP: str(max(passed))} if passed else {}
            await run.note(progress, cursor=cursor, error=attempt.error, connection=connection)
        run.progress = progress
        self._counter.inc(len(attempt.appended))
        if attempt.waiting:
            raise TransportUnavailable(attempt.error)
        return True


def _progress(job: Job) -> RedriveProgress:
    return RedriveProgress(
        id=job.id,
        state=job.state,
        stalled=job.stalled,
        resumable=job.resumable,
        total=job.total,
        redriven=job.done,
        failed=job.failed,
        rate=job.rate,
        error=job.error,
        started_by=job.started_by,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )
