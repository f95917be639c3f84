"""Run a backfill: find what the target lacks, append it in order, look again, until all is there.

Safe to run twice, and to be killed anywhere: what is missing is found by comparing, never assumed.
An append whose outcome is not known is not repeated; the next comparison shows whether it stands
there. Beside live traffic it leaves the newest seconds alone (``settle``), which are the live
shadow's. Should a copy of those come later still, the message has one record more, and one row.

It is a job of :mod:`persistence.jobs`, which waits out outages and lets one at a time write to a
target.
"""

from __future__ import annotations

from collections.abc import Sequence

from migration_guide.backfill.from_log import FromLog
from migration_guide.backfill.from_rows import FromRows
from migration_guide.backfill.request import BackfillOrder, BackfillStatus, Request
from persistence.database.outage import unless
from persistence.database.pool import Pool
from persistence.jobs.job import JobProgress, NewJob
from persistence.jobs.rate import Rate
from persistence.jobs.runner import JobRun, JobRunner
from persistence.jobs.table import JobStopped
from persistence.tables.states import JobKind, JobState
from transport.contract import Appended, Envelope, Outcome, Remembered, Transport
from transport.errors import TransportError

__all__ = ["Backfill"]


class Backfill:
    """One run, of one request, from ``source`` into ``target`` (both entered by the caller).

    ``job`` is the job that it runs as, once it has begun.
    """

    def __init__(self, pool: Pool, source: Transport, target: Transport, request: Request) -> None:
        self.status = BackfillStatus()
        self.job: JobRun | None = None
        self.request = request
        self.source = source
        self.target = target
        self.pool = pool
        self.rate = Rate(request.rate)
        self.cursor: dict[str, str] = {}
        self._work = FromRows(self) if request.from_rows else FromLog(self)

    async def run(self) -> BackfillStatus:
        """Return when the target lacks nothing of what was asked for.

        Raises:
            JobRunning: another backfill into the same target runs.
            JobStopped: somebody cancelled it.
            ConfigurationError: the two logs can't be compared.
        """
        request, source, target = self.request, self.source.name, self.target.name
        order = BackfillOrder(source, target, request.from_rows, request.since, request.everything)
        runner = JobRunner(self.pool)
        try:
            job = NewJob(
                kind=JobKind.BACKFILL,
                request=order,
                by=request.by,
                rate=request.rate,
                alone={"target": target},
            )
            run = await runner.start(job, self._step)
            await runner.wait(run.id)
        finally:
            await runner.close()
        if run.state == JobState.CANCELLED:
            raise JobStopped
        return self.status

    async def preview(self) -> BackfillStatus:
        """Return what a run would do; nothing is appended or written.

        Raises:
            ConfigurationError: the two logs can't be compared.
            TransportError, Outage: the logs or the rows can't be read.
        """
        self.status.missing = await self._work.count()
        return self.status

    async def _step(self, run: JobRun) -> bool:
        """Do one round, or as much of it as there is time for."""
        if self.job is None:
            self._take_up(run)
        repaired = await unless(run.stop, self._work.round())
        if repaired is not False:  # some was missing, or it is to stop
            return True
        self.status.stage = "done"
        await self.note()
        return False

    def _take_up(self, run: JobRun) -> None:
        """Go on where an earlier run of the same job left off."""
        self.job = run
        self.cursor = dict(run.cursor)
        self.status.appended = run.progress.done
        self.status.present = run.progress.counts.get("present", 0)

    async def append(self, envelopes: Sequence[Envelope], through: dict[str, str]) -> None:
        """Append, in order and at the rate; note ``through`` once all of them are there.

        Raises:
            TransportError: one of them is not, or not surely. Compare again.
            JobStopped: somebody cancelled it.
        """
        failure: TransportError | None = None
        if envelopes:
            await self.rate.spend(len(envelopes))
            failure = self._count(await self.target.publish(envelopes))
        if failure is not None:
            await self.note(str(failure))
            raise failure
        self.cursor |= through
        await self.note()

    def _count(self, outcomes: Sequence[Outcome]) -> TransportError | None:
        failure: TransportError | None = None
        for outcome in outcomes:
            if isinstance(outcome, Appended):
                self.status.appended += 1
            elif isinstance(outcome, Remembered):
                self.status.present += 1
            else:
                failure = failure or outcome
        return failure

    async def note(self, error: str | None = None) -> None:
        """Write how far it is.

        Raises:
            JobStopped: somebody cancelled it.
        """
        assert self.job is not None
        status = self.status
        counts = {
            "examined": status.examined,
            "present": status.present,
            "uncopied": status.uncopied,
            "gapsRepaired": status.gaps_repaired,
        }
        progress = JobProgress(status.missing, status.appended, status.refused, counts)
        await self.job.note(progress, cursor=self.cursor, error=error)
        self.job.progress = progress
