"""A repair as a long job: one at a time, listed with its caller and its outcome.

A repair is one transaction. If its process dies, nothing was changed, and resuming the job starts
the repair again.
"""

from __future__ import annotations

import msgspec

from persistence.audit.repair import repair
from persistence.audit.report import RepairReport
from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.jobs.job import JobProgress, NewJob
from persistence.jobs.runner import JobRun, JobRunner
from persistence.jobs.table import JobStopped
from persistence.tables.states import JobKind
from transport.contract import Transport

__all__ = ["RepairOrder", "run_repair"]


class RepairOrder(msgspec.Struct, frozen=True):
    """Order of a repair: the name of the log to compare the rows with."""

    transport: str


async def run_repair(pool: Pool, transport: Transport, *, by: str) -> RepairReport:
    """Run ``persistence.audit.repair.repair`` as a job.

    Raises:
        JobRunning: another repair runs.
        JobStopped: it was cancelled before it began to change anything.
        Outage, TransportError: see there. The job is listed as failed, with the error.
    """
    reports: list[RepairReport] = []

    async def step(run: JobRun) -> bool:
        report = await repair(pool, transport)
        counts = {
            "removed": sum(len(duplicate.surplus) for duplicate in report.removed),
            "receiptsRemoved": report.receipts_removed,
            "constraints": len(report.constraints),
            "inserted": len(report.inserted),
            "deadLettered": len(report.dead_lettered),
            "restored": len(report.restored),
        }
        reports.append(report)
        done = sum(counts.values())
        left = len(report.disorders)
        run.progress = JobProgress(done + left, done, left, counts)
        await run.note(run.progress)
        return False

    runner = JobRunner(pool, patient=False)
    try:
        order = RepairOrder(transport.name)
        run = await runner.start(NewJob(kind=JobKind.REPAIR, request=order, by=by, alone={}), step)
        await runner.wait(run.id)
    except Outage:
        if not reports:  # otherwise it was done, and only its row lacks the report
            raise
    finally:
        await runner.close()
    if not reports:
        raise JobStopped
    return reports[0]
