"""``crossfade jobs``, and functions with which other commands show their own job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

import msgspec
import typer

from compose.commands.options.common import Json, JsonLines, Wide
from compose.grid import Grid
from compose.output import client_settings, err, fail, out, run
from compose.terminal import progress_bar
from persistence.database.pool import Pool, connect
from persistence.errors import Outage
from persistence.jobs.job import Job
from persistence.jobs.table import JobTable
from persistence.settings import PersistenceSettings
from persistence.tables.states import JobKind, JobState

__all__ = ["app", "database", "follow", "say_end"]

_REFRESH = 0.2
_VERBS = {
    JobKind.REDRIVE: "redrove",
    JobKind.BACKFILL: "appended",
    JobKind.REPAIR: "repaired",
    JobKind.ERASURE: "erased",
}

_JobId = Annotated[UUID, typer.Argument(metavar="ID", help="The job's id, as the list shows it.")]
_Limit = Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Most that are listed.")]
_Kind = Annotated[JobKind | None, typer.Option(help="Only those of this kind.")]

app = typer.Typer(
    no_args_is_help=True,
    help="List, watch and cancel jobs: redrives, backfills, repairs, erasures.",
)


@app.command(name="list")
def list_jobs(
    *, kind: _Kind = None, limit: _Limit = 20, as_json: Json = False, _wide: Wide = False
) -> None:
    """List the latest jobs, newest first."""

    async def main() -> list[Job]:
        async with database(client_settings().persistence) as pool:
            return await JobTable(pool).recent(limit + 1, kind)

    found = run(main)
    jobs = found[:limit]
    if len(found) > limit:
        err.print(f"These are the latest {limit}; --limit shows more.")
    if as_json:
        out.json(msgspec.to_builtins(jobs))
        return
    if not jobs:
        err.print(f"There were no {kind or 'job'}s yet.")
        return
    table = Grid()
    for heading, drop in (("job", 0), ("kind", 6), ("of", 3), ("state", 0), ("progress", 0)):
        table.add_column(heading, drop=drop)
    table.add_column("failed", drop=4)
    table.add_column("started at", drop=2)
    table.add_column("by", drop=5)
    table.add_column("error", prose=True, drop=1)
    for job in jobs:
        table.add_row(
            job.id,
            job.kind,
            _subject(job),
            _state(job),
            f"{job.done} of {job.total}",
            str(job.failed),
            job.started_at,
            job.started_by,
            job.error or "",
        )
    out.print(table)


@app.command()
def watch(identifier: _JobId, *, as_json: JsonLines = False) -> None:
    """Watch a job, wherever it runs, to its end.

    The command does not wait for a stalled job.
    """

    def changed(job: Job) -> None:
        if as_json:
            out.json(msgspec.to_builtins(job), indent=None)

    async def main() -> None:
        async with database(client_settings().persistence) as pool:
            job = await follow(pool, identifier, until_stalled=True, changed=changed)
        say_end(job, as_json=as_json, indent=None)

    run(main)


@app.command()
def cancel(identifier: _JobId, *, as_json: Json = False) -> None:
    """Stop a job after its present batch. Finished work stays."""

    async def main() -> bool:
        async with database(client_settings().persistence) as pool:
            jobs = JobTable(pool)
            job = await jobs.get(identifier)
            if (
                job
                and job.kind == JobKind.REPAIR
                and job.state == JobState.RUNNING
                and not job.stalled
            ):
                fail("a repair is one transaction: stop the process that runs it, and it is undone")
            return await jobs.cancel(identifier)

    if not run(main):
        fail(f"no job {identifier} is under way")
    if as_json:
        out.json({"cancelled": str(identifier)})
        return
    out.print("cancelled")


async def follow(
    pool: Pool,
    identifier: UUID,
    *,
    until_stalled: bool = False,
    changed: Callable[[Job], None] | None = None,
) -> Job:
    """Wait until a job is over, and return it. Waits out outages, as the job does.

    Args:
        pool: Connections to the database.
        identifier: The job.
        until_stalled: Return also if the job is stalled.
        changed: Called with the job each time that its state has changed.

    Raises:
        Outage: PostgreSQL can't answer the first time.
    """
    jobs, last = JobTable(pool), None
    with progress_bar(err) as bar:
        task = bar.add_task("", total=None)
        while True:
            try:
                job = await jobs.get(identifier)
            except Outage as error:
                if last is None:  # perhaps the settings lead to no server
                    raise
                bar.update(task, description=f"waiting: {error}")
                await asyncio.sleep(_REFRESH)
                continue
            if job is None:
                fail(f"there is no job {identifier}")
            bar.update(
                task,
                total=job.total or None,
                completed=job.done + job.failed,
                description=f"waiting: {job.error}" if job.error else job.kind,
            )
            if job.state != JobState.RUNNING or (until_stalled and job.stalled):
                return job
            if job != last and changed:
                changed(job)
            last = job
            await asyncio.sleep(_REFRESH)


def say_end(job: Job, *, as_json: bool, indent: int | None = 2) -> None:
    """Print how a job ended; exit with status 1 if a part of it was not done."""
    if as_json:
        out.json(msgspec.to_builtins(job), indent=indent)
    line = f"{_state(job)}: {_VERBS.get(JobKind(job.kind))} {job.done} of {job.total}"
    if job.failed and job.kind == JobKind.REDRIVE:
        line += f"; {job.failed} could not be appended and stay pending ({job.error})"
    elif job.failed:
        line += f"; {job.failed} are left as they are"
    if job.state == JobState.FAILED:
        line += f" ({job.error})"
    if job.resumable:
        fail(line, f"go on with: {_resume(job)}")
    if job.state != JobState.DONE or job.failed:
        fail(line)
    if not as_json:
        out.print(line)


@asynccontextmanager
async def database(settings: PersistenceSettings) -> AsyncIterator[Pool]:
    """Yield a pool of connections; close it when the block ends."""
    pool = await connect(settings)
    try:
        yield pool
    finally:
        await pool.close()


def _state(job: Job) -> str:
    return "stalled" if job.stalled else job.state


def _resume(job: Job) -> str:
    if job.kind == JobKind.REDRIVE:
        return f"crossfade dlq redrive --resume {job.id}"
    if job.kind == JobKind.BACKFILL:
        return f"crossfade migrate backfill --resume {job.id}"
    if job.kind == JobKind.ERASURE:
        return f"crossfade erase --{job.request.get('kind')} ID"
    return f"crossfade audit --repair --transport {job.request.get('transport')}"


def _subject(job: Job) -> str:
    request = job.request
    if job.kind == JobKind.REDRIVE:
        chosen = request.get("selection") or {}
        ids = chosen.get("ids")
        if ids:
            return f"{len(ids)} by id"
        return ", ".join(f"{name} {value}" for name, value in chosen.items()) or "all pending"
    if job.kind == JobKind.BACKFILL:
        source = "rows" if request.get("fromRows") else request.get("source")
        return f"{source} to {request.get('target')}"
    if job.kind == JobKind.ERASURE:
        return f"{request.get('kind')} sha256:{str(request.get('digest'))[:16]}"
    return str(request.get("transport", ""))
