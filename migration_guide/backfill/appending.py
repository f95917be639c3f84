"""The state of one backfill, and its appends: counted, at the rate, and noted in the job."""

from __future__ import annotations

from collections.abc import Sequence

from migration_guide.backfill.request import BackfillStatus, Request
from persistence.database.pool import Pool
from persistence.jobs.job import JobProgress
from persistence.jobs.rate import Rate
from persistence.jobs.runner import JobRun
from transport.contract import Appended, Envelope, Outcome, Remembered, Transport
from transport.errors import TransportError

__all__ = ["BackfillAppends"]


class BackfillAppends:
    """Appends the records that a round finds missing in ``target``.

    ``job`` is the job that the backfill runs as, once it has begun. ``cursor`` says how far it is.
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

    async def append(self, envelopes: Sequence[Envelope]) -> None:
        """Append in order, within the rate; then write the progress to the job.

        Raises:
            TransportError: an append failed, or its outcome is unknown. Compare again.
            JobStopped: the job was cancelled.
        """
        failure: TransportError | None = None
        if envelopes:
            await self.rate.spend(len(envelopes))
            failure = self._count(await self.target.publish(envelopes))
        if failure is not None:
            await self.note(str(failure))
            raise failure
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
        """Write the progress to the job.

        Raises:
            JobStopped: the job was cancelled.
        """
        assert self.job is not None
        progress = self.progress()
        await self.job.note(progress, cursor=self.cursor, error=error)
        self.job.progress = progress

    def progress(self) -> JobProgress:
        """Return the progress in the form of its job."""
        status = self.status
        counts = {
            "examined": status.examined,
            "present": status.present,
            "uncopied": status.uncopied,
            "gapsRepaired": status.gaps_repaired,
        }
        return JobProgress(status.missing, status.appended, status.refused, counts)
