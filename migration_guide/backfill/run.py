"""Run a backfill: find records the target lacks, append them in order, repeat until none lack.

"None" means: none that the source had when the comparison began. Copies that a live shadow loses
later are appended if a round finds them, but no further round is made for them.

It is safe to run twice, and to be killed anywhere: missing records are found by comparing the logs.
Each log is read once, from the place through which an earlier run knew them to be equal. An append
whose outcome is unknown is not repeated; the next comparison shows whether the record stands there.
Beside live traffic, the newest seconds (``settle``) are left to the live shadow. If it copies one
of their records later still, the message has one more record, and still one row.

It is a job of ``persistence.jobs``, which waits out outages and lets one at a time write to a
target.
"""

from __future__ import annotations

from uuid import UUID

from migration_guide.backfill.appending import BackfillAppends
from migration_guide.backfill.from_log import FromLog
from migration_guide.backfill.from_rows import FromRows
from migration_guide.backfill.request import BackfillOrder, BackfillStatus, Request
from persistence.database.outage import unless_stopped
from persistence.database.pool import Pool
from persistence.fleet.leader_lock import elected
from persistence.jobs.job import NewJob
from persistence.jobs.runner import JobRun, JobRunner
from persistence.jobs.table import JobRunning, JobStopped, JobTable
from persistence.tables.states import JobKind, JobState
from transport.contract import Transport

__all__ = ["Backfill"]

_LATEST = 20
"""How many of the latest backfills are searched for the running one."""


class Backfill:
    """One run, of one request, from ``source`` into ``target`` (both entered by the caller).

    ``appends`` has its job and its cursor, once it has begun.
    """

    def __init__(self, pool: Pool, source: Transport, target: Transport, request: Request) -> None:
        self.appends = BackfillAppends(pool, source, target, request)
        self.status = self.appends.status
        work = FromRows if request.from_rows else FromLog
        self._work = work(self.appends)

    async def run(self) -> BackfillStatus:
        """Copy until the target lacks no requested record.

        Raises:
            JobRunning: another backfill into the same target runs.
            JobStopped: the job was cancelled.
            ConfigurationError: the two logs can't be compared.
        """
        appends, request = self.appends, self.appends.request
        source, target = appends.source.name, appends.target.name
        order = BackfillOrder(
            source,
            target,
            request.from_rows,
            request.since,
            request.everything,
            request.limits.settle,
        )
        async with elected(appends.pool, f"backfill {target}") as lock:
            # The release before this one knows only this lock, and may run beside it.
            if lock is None:
                raise JobRunning(JobKind.BACKFILL, await self._running(target))
            return await self._run(order)

    async def _running(self, target: str) -> UUID | None:
        """Return the backfill that runs into ``target``."""
        jobs = await JobTable(self.appends.pool).recent(_LATEST, JobKind.BACKFILL)
        running = (
            UUID(job.id)
            for job in jobs
            if job.state == JobState.RUNNING and job.request.get("target") == target
        )
        return next(running, None)

    async def _run(self, order: BackfillOrder) -> BackfillStatus:
        appends, request = self.appends, self.appends.request
        runner = JobRunner(appends.pool)
        try:
            job = NewJob(
                kind=JobKind.BACKFILL,
                request=order,
                by=request.by,
                rate=request.rate,
                alone={"target": order.target},
                resume=request.resume,
            )
            run = await runner.start(job, self._step)
            await runner.wait(run.id)
        finally:
            await runner.close()
            self._work.close()
        if run.state == JobState.CANCELLED:
            raise JobStopped
        return self.status

    async def preview(self) -> BackfillStatus:
        """Preview a run; nothing is appended or written.

        Raises:
            ConfigurationError: the two logs can't be compared.
            TransportError, Outage: the logs or the rows can't be read.
        """
        try:
            self.status.missing = await self._work.count()
        finally:
            self._work.close()
        return self.status

    async def _step(self, run: JobRun) -> bool:
        """Do one round, or as much of it as there is time for."""
        if self.appends.job is None:
            self._take_up(run)
        repaired = await unless_stopped(run.stop, self._work.round())
        if repaired is not False:  # records were missing, or it is to stop
            return True
        self.status.stage = "done"
        await self.appends.note()
        return False

    def _take_up(self, run: JobRun) -> None:
        """Go on where an earlier run of the same job left off."""
        self.appends.job = run
        self.appends.cursor = dict(run.cursor)
        self.status.appended = run.progress.done
        self.status.present = run.progress.counts.get("present", 0)
