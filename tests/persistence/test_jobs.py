"""Long jobs, whatever they do: one process runs a job, and a failure is listed with its error."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from persistence.audit.job import run_repair
from persistence.database.pool import using
from persistence.errors import Outage
from persistence.fleet.leader_lock import elected
from persistence.jobs.job import JobProgress, NewJob
from persistence.jobs.lease import Lease
from persistence.jobs.runner import JobRun, JobRunner
from persistence.jobs.table import JobRunning
from persistence.tables.states import JobKind, JobState
from transport.errors import TransportUnavailable

LOSE_LOCKS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_locks
WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
"""


class Order(msgspec.Struct):
    target: str = "kafka"


def job(**changes) -> NewJob:
    return NewJob(
        **{"kind": JobKind.BACKFILL, "request": Order(), "by": "ann", "alone": {"target": "kafka"}}
        | changes
    )


async def forever(run: JobRun) -> bool:
    await run.note(JobProgress(9, run.progress.done))
    await asyncio.sleep(0.02)
    return True


@pytest.fixture
async def runners(database_pool):
    made = [JobRunner(database_pool), JobRunner(database_pool)]
    yield made
    for runner in made:
        await runner.close()


async def test_of_two_starts_at_once_one_runs_and_the_other_is_told(runners):
    begun = await asyncio.gather(
        *(runner.start(job(), forever) for runner in runners), return_exceptions=True
    )
    (run,) = [outcome for outcome in begun if isinstance(outcome, JobRun)]
    (refused,) = [outcome for outcome in begun if isinstance(outcome, JobRunning)]
    assert refused.id == run.id
    assert not await runners[0].resume(run.id, JobKind.BACKFILL, forever)


async def test_a_job_resumed_elsewhere_ends_where_it_ran(runners, database_pool):
    first, second = runners
    suspended = await first.start(job(), forever)
    await database_pool.execute(
        "UPDATE jobs SET seen_at = now() - interval '2 minutes', owner = 'x'"
    )
    assert await second.resume(suspended.id, JobKind.BACKFILL, forever)
    await first.wait(suspended.id)
    assert suspended.state == JobState.CANCELLED
    shown = await second.table.get(suspended.id)
    assert (shown.state, shown.stalled) == (JobState.RUNNING, False)
    await second.close()
    assert (await second.table.get(suspended.id)).state == JobState.INTERRUPTED


async def test_a_process_that_lost_its_lock_is_seen_to_be_gone_and_can_be_followed(
    runners, database_pool
):
    first, second = runners
    run = await first.start(job(), forever)
    # Its connection ends, as that of a killed process does.
    await database_pool.execute(LOSE_LOCKS)
    shown = await second.table.get(run.id)
    assert (shown.stalled, shown.resumable) == (True, True)
    taken = await second.start(job(), forever)
    assert taken.id == run.id


async def test_a_job_at_work_here_is_not_resumed_here_while_its_lock_is_lost(
    runners, database_pool
):
    runner, _ = runners
    awake, at_work = asyncio.Event(), []

    async def waits(run: JobRun) -> bool:
        at_work.append(run)
        await awake.wait()
        return False

    run = await runner.start(job(), waits)
    await database_pool.execute(LOSE_LOCKS)
    shown = await runner.table.get(run.id)
    assert (shown.stalled, shown.resumable) == (True, True)
    resumed = await runner.resume(run.id, JobKind.BACKFILL, waits)
    await runner.table.get(run.id)  # a second run would have begun by now
    awake.set()
    await runner.wait(run.id)
    assert (resumed, at_work) == (False, [run])
    assert (await runner.table.get(run.id)).state == JobState.DONE


@pytest.mark.parametrize("committed", [False, True])
async def test_a_step_whose_commit_fails_begins_anew_where_postgresql_says(
    runners, database_pool, committed
):
    """The connection ends at the commit: before it, or before its answer."""
    runner, _ = runners
    begun = []

    async def step(run: JobRun) -> bool:
        begun.append((run.progress.done, dict(run.cursor)))
        done = run.progress.done + 1
        async with using(database_pool) as connection, connection.transaction():
            await run.note(JobProgress(2, done), cursor={"at": str(done)}, connection=connection)
            if len(begun) == 1:
                pid = await connection.fetchval("SELECT pg_backend_pid()")
                if committed:
                    await connection.execute("COMMIT")
                await database_pool.execute("SELECT pg_terminate_backend($1, 10000)", pid)
        run.progress = JobProgress(2, done)
        return done < 2

    run = await runner.start(job(), step)
    await runner.wait(run.id)
    seen = [(0, {}), (1, {"at": "1"})]
    assert begun == (seen if committed else [(0, {}), *seen])
    shown = await runner.table.get(run.id)
    assert (shown.state, shown.done) == (JobState.DONE, 2)


async def test_an_outage_is_noted_while_it_lasts_and_a_fault_ends_the_job(runners):
    runner, _ = runners
    failures = [Outage("down"), TransportUnavailable("away"), RuntimeError("secret")]
    noted = []

    async def fails(run: JobRun) -> bool:
        shown = await runner.table.get(run.id)
        noted.append(shown.error)
        raise failures[len(noted) - 1]

    run = await runner.start(job(), fails)
    with pytest.raises(RuntimeError):
        await runner.wait(run.id)
    assert noted == [None, "down", "away"]
    (listed,) = await runner.table.recent(20)
    assert (listed.state, listed.resumable) == (JobState.FAILED, True)
    assert listed.error.startswith("RuntimeError: ")
    assert "secret" not in listed.error  # it may quote what a message says


class _Away:
    name = "redis"

    async def progress(self, *_arguments, **_options):
        raise TransportUnavailable("the log is away")


async def test_a_repair_that_failed_is_listed_with_its_error(runners, database_pool):
    with pytest.raises(TransportUnavailable):
        await run_repair(database_pool, _Away(), by="ann")
    (listed,) = await runners[0].table.recent(20, JobKind.REPAIR)
    assert (listed.state, listed.error, listed.started_by) == ("failed", "the log is away", "ann")


async def test_jobs_that_follow_each_other_closely_find_the_lock_free(database_pool):
    """The last one's lock may still be on its way back when the next one begins."""
    lease = Lease(database_pool)

    await lease.take()
    for _ in range(20):
        leaving = asyncio.create_task(lease.release())
        await asyncio.sleep(0)
        await lease.take()
        await leaving
    await lease.release()
    async with elected(database_pool, lease.owner) as connection:
        assert connection is not None


async def test_a_job_that_seems_dead_is_fenced_before_another_request_begins(
    runners, database_pool, monkeypatch
):
    monkeypatch.setattr("persistence.jobs.lease._HEARTBEAT_SECONDS", 3600.0)
    first, second = runners
    awake = asyncio.Event()

    async def suspended(run: JobRun) -> bool:
        await awake.wait()
        await run.note(JobProgress(9, run.progress.done))
        return True

    old = await first.start(job(request=Order("kafka")), suspended)
    await database_pool.execute("UPDATE jobs SET seen_at = now() - interval '2 minutes'")
    new = await second.start(job(request=Order("else"), alone={}), forever)
    awake.set()
    await first.wait(old.id)
    assert (old.state, new.state) == (JobState.CANCELLED, None)


async def test_only_jobs_that_are_at_work_here_are_said_to_be_alive(runners, database_pool):
    """One whose end could not be written is stalled, also while its process runs another."""
    runner, _ = runners
    live = await runner.start(job(request=Order("a"), alone=None), forever)
    owner = await database_pool.fetchval("SELECT owner FROM jobs WHERE id = $1", live.id)
    lost = await database_pool.fetchval(
        "INSERT INTO jobs (id, kind, state, request, rate, owner, started_by, seen_at)"
        " SELECT gen_random_uuid(), kind, state, request, rate, $1, started_by,"
        " now() - interval '1 hour' FROM jobs RETURNING id",
        owner,
    )
    shown = await runner.table.get(lost)
    assert shown is not None
    assert (shown.stalled, shown.resumable) == (True, True)
