"""Runs long jobs in this process: step after step, through outages, until nothing is left.

One process at a time runs a job. The row names it (``owner``), and writes of other processes are
refused. So a job that was resumed elsewhere ends here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from uuid import UUID

import structlog

from persistence.database.outage import stopped_within
from persistence.database.pool import Connection, Pool, using
from persistence.errors import Outage, PersistenceError
from persistence.jobs.job import JobProgress, NewJob
from persistence.jobs.lease import Lease
from persistence.jobs.rate import Rate
from persistence.jobs.table import ClaimedJob, JobStopped, JobTable
from persistence.tables.states import JobKind, JobState
from transport.backoff import Backoff
from transport.errors import ConfigurationError, TransportError

__all__ = ["JobRun", "JobRunner", "Step"]

_log = structlog.get_logger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0


class JobRun:
    """One run of a job, as its work sees it.

    ``progress`` and ``cursor`` begin where an earlier run ended; ``stop`` is set when this process
    should end the run. ``state`` is the state in which this run ended; ``None`` while it goes on.
    It is ``CANCELLED`` also if another process has resumed the job.
    """

    def __init__(
        self, claimed: ClaimedJob, table: JobTable, lease: Lease, pool: Pool, stop: asyncio.Event
    ) -> None:
        self.id = claimed.id
        self.request = claimed.request
        self.by = claimed.by
        self.rate = Rate(claimed.rate)
        self.cursor = claimed.cursor
        self.progress = claimed.progress
        self.error: str | None = None
        self.state: JobState | None = None
        self.stop = stop
        self._table = table
        self._lease = lease
        self._pool = pool

    async def lock(self, connection: Connection) -> None:
        """Keep the job from being cancelled or resumed elsewhere until the transaction ends.

        Raises:
            JobStopped: this run has to end.
        """
        await self._table.lock(connection, self.id, self._lease.owner)

    async def note(
        self,
        progress: JobProgress,
        *,
        cursor: Mapping[str, str] | None = None,
        error: str | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Write the progress; in the transaction of ``connection`` if one is given.

        If that transaction fails, the next step begins where PostgreSQL says; see ``pause``.

        Raises:
            JobStopped: this run has to end.
            Outage: PostgreSQL can't do it now.
        """
        if connection is None:
            async with using(self._pool) as own:
                await self.note(progress, cursor=cursor, error=error, connection=own)
            return
        passed = cursor or {}
        await self._table.note(
            connection, self.id, self._lease.owner, progress, cursor=passed, error=error
        )
        self.cursor.update(passed)
        self.error = error

    async def pause(self, error: str) -> None:
        """Record why the run waits, and go back to the progress that PostgreSQL has.

        The step that failed may have noted progress in a transaction that did not commit. Or it
        committed, and the answer did not come.

        Raises:
            JobStopped: this run has to end.
            Outage: PostgreSQL can't do it now; progress and cursor may be wrong.
        """
        claimed = await self._table.pause(self.id, self._lease.owner, error)
        self.cursor, self.progress = claimed.cursor, claimed.progress


Step = Callable[[JobRun], Awaitable[bool]]
"""Does a part of a job's work; returns whether some is left."""


class JobRunner:
    """Starts jobs in this process. ``close`` interrupts them; any process can resume them.

    ``patient``: whether outages of PostgreSQL and of logs are waited out. Otherwise they end the
    job as failed.
    """

    def __init__(self, pool: Pool, *, patient: bool = True) -> None:
        self.table = JobTable(pool)
        self._pool = pool
        self._patient = patient
        self._lease = Lease(pool)
        self._stop = asyncio.Event()
        self._running: dict[UUID, asyncio.Task[None]] = {}
        self._runs: dict[UUID, JobRun] = {}

    async def start(self, job: NewJob, step: Step) -> JobRun:
        """Start a job, or resume one that has to run alone and has the same request.

        Raises:
            JobRunning: it has to run alone, and another one runs.
            JobExists: ``job.id`` is the id of an earlier job.
            Outage: PostgreSQL can't do it now; nothing was started.
        """
        await self._lease.take()
        try:
            claimed = await self.table.begin(job, self._lease.owner)
        except BaseException:
            await self._lease.release()
            raise
        return self._spawn(claimed, step)

    async def resume(self, identifier: UUID, kind: JobKind, step: Step) -> bool:
        """Resume a job that no process works on; return whether there is one.

        Raises:
            Outage: PostgreSQL can't answer now.
        """
        # It seems stalled while our lock is lost. A second run would have the same owner, so no
        # write would end the first.
        if (ours := self._runs.get(identifier)) is not None and ours.state is None:
            return False
        await self._lease.take()
        try:
            claimed = await self.table.resume(identifier, kind, self._lease.owner)
        except BaseException:
            await self._lease.release()
            raise
        if claimed is None:
            await self._lease.release()
            return False
        self._spawn(claimed, step)
        return True

    async def wait(self, identifier: UUID) -> None:
        """Wait until a job that runs in this process has ended here.

        Raises:
            Exception: the error that made it fail.
        """
        if task := self._running.get(identifier):
            await asyncio.shield(task)

    async def close(self) -> None:
        """Stop the jobs of this process after the step in hand. Any process can resume them."""
        self._stop.set()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _spawn(self, claimed: ClaimedJob, step: Step) -> JobRun:
        run = JobRun(claimed, self.table, self._lease, self._pool, self._stop)
        self._running = {i: task for i, task in self._running.items() if not task.done()}
        task = asyncio.create_task(self._run(run, step), name=f"job {run.id}")
        self._runs = {i: known for i, known in self._runs.items() if i in self._running}
        self._running[run.id], self._runs[run.id] = task, run
        self._lease.running.add(run.id)
        task.add_done_callback(_retrieve_error)
        return run

    async def _run(self, run: JobRun, step: Step) -> None:
        state, error = JobState.INTERRUPTED, None
        try:
            if await self._work(run, step):
                state, error = JobState.DONE, run.error
        except JobStopped:
            state = JobState.CANCELLED
        except Exception as failure:
            state, error = JobState.FAILED, _error_text(failure)
            _log.exception("Job failed; it can be resumed", job=str(run.id))
            raise
        finally:
            run.state = state
            # Before the row says that it ended: then it can be resumed here.
            self._lease.running.discard(run.id)
            if state != JobState.CANCELLED:
                # If this can't be written, the end of the lock shows that no process runs it.
                with suppress(PersistenceError):
                    await self.table.finish(run.id, self._lease.owner, state, error)
            await self._lease.release()
            _log.info("Job ended in this process", job=str(run.id), state=state)

    async def _work(self, run: JobRun, step: Step) -> bool:
        """Repeat ``step``; return whether no work is left."""
        backoff, unsure = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE), ""
        while not self._stop.is_set():
            before = run.progress
            try:
                if unsure:
                    await run.pause(unsure)
                    unsure = ""
                if not await step(run):
                    return True
            except ConfigurationError:
                raise
            except (TransportError, Outage) as error:
                if not self._patient:
                    raise
                _log.warning(
                    "Job paused by an outage; will retry", job=str(run.id), error=str(error)
                )
                unsure = str(error)
                with suppress(Outage):
                    await run.pause(unsure)
                    unsure = ""
                if run.progress != before:  # there was progress between two outages
                    backoff.reset()
                await stopped_within(self._stop, backoff.next())
                run.error = None
            else:
                backoff.reset()
        return False


def _error_text(failure: Exception) -> str:
    if isinstance(failure, TransportError | PersistenceError):
        return str(failure)
    # The error's text may quote a message's content; only our log knows how to redact it.
    return f"{type(failure).__name__}: the log of the process that ran it has the traceback"


def _retrieve_error(task: asyncio.Task[None]) -> None:
    # The error is logged, and the job's state has it; no caller has to wait for it.
    if not task.cancelled():
        task.exception()
