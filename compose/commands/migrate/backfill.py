"""``crossfade migrate backfill``: appends records of one log that are missing in another."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated
from uuid import UUID

import msgspec
import typer

from compose.commands.jobs import database
from compose.commands.migrate.logs import Since, moment, other, two_logs
from compose.commands.options.bounds import LARGEST_INTEGER
from compose.commands.options.common import DryRun, Json
from compose.commands.options.log_name import named_log
from compose.commands.options.operator_action import caller
from compose.counting import counted
from compose.output import client_settings, err, fail, out, run
from compose.settings import Settings
from compose.terminal import progress_bar
from migration_guide.backfill.request import SETTLE, BackfillOrder, BackfillStatus, Request
from migration_guide.backfill.run import Backfill
from migration_guide.parity.comparison import ParityLimits
from persistence.fleet.retired_logs import must_not_be_retired
from persistence.jobs.job import Job
from persistence.jobs.table import JobRunning, JobStopped, JobTable
from persistence.tables.states import JobKind

__all__ = ["backfill"]

_REFRESH = 0.2


def backfill(
    *,
    dry_run: DryRun = False,
    since: Since = None,
    from_rows: Annotated[
        bool,
        typer.Option(
            "--from-rows",
            help="Copy from PostgreSQL the messages that the source has trimmed or lost.",
        ),
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=LARGEST_INTEGER,
            metavar="N",
            help="Most records a second; 0: no limit.",
            show_default=f"{Request().rate}, or that of the one resumed",
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything",
            help="Also copy old, settled records that the target may have trimmed.",
        ),
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(callback=named_log, help="The log to copy from; by default TRANSPORT."),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(callback=named_log, help="The log to copy to; by default TRANSPORT_SHADOW."),
    ] = None,
    settle: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Leave younger records to the live shadow.",
            show_default=f"{SETTLE:g}",
        ),
    ] = None,
    resume: Annotated[
        UUID | None, typer.Option(metavar="BACKFILL", help="Resume one that did not end.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Append the records of one log that are missing in another.

    It appends them in order, beside live traffic, and may run as often as you like.

    Only missing records are appended, so a second run appends nothing. Ctrl-C stops it; the same
    command continues it. It is a job: 'crossfade jobs' lists, watches and cancels it from
    elsewhere.
    """
    settings = client_settings()
    if resume is not None:
        if from_rows or everything or source or into or since or settle is not None:
            fail("--resume goes on with what was asked for: leave the other options out")
        job = run(lambda: _resumable(settings, resume))
        order = msgspec.convert(job.request, BackfillOrder)
        rate = job.rate if rate is None else rate
    else:
        first = source or settings.transport.transport
        second = other(settings, first, into, "--into")
        begin = moment(since, "--since")
        young = SETTLE if settle is None else settle
        order = BackfillOrder(first, second, from_rows, begin, everything, young)
    first, second = order.source, order.target
    request = Request(
        from_rows=order.from_rows,
        since=order.since,
        rate=Request().rate if rate is None else rate,
        everything=order.everything,
        by=caller(),
        limits=ParityLimits(settle=order.settle),
        resume=resume,
    )
    if dry_run:
        status = run(lambda: _preview(settings, (first, second), request))
        if as_json:
            out.json(
                {
                    "source": first,
                    "target": second,
                    "wouldAppend": status.missing,
                    "uncopied": status.uncopied,
                }
            )
            return
        out.print(f"would append {counted(status.missing, 'record')} to {second}")
        _left_out(status, second)
        return
    status, job = run(lambda: _run(settings, (first, second), request))
    if as_json:
        out.json(msgspec.to_builtins(job))
    else:
        _say(status, second)
    if status.refused:
        records = counted(status.refused, "record")
        fail(f"not copied: {records} of which a key or a header is not text")


def _say(status: BackfillStatus, target: str) -> None:
    out.print(f"done: {counted(status.appended, 'record')} appended to {target}")
    if status.present:
        out.print(f"{status.present} had come there meanwhile")
    if status.gaps_repaired:
        out.print(f"{counted(status.gaps_repaired, 'gap')} of the ledger closed")
    _left_out(status, target)


async def _resumable(settings: Settings, identifier: UUID) -> Job:
    """Return a backfill that can be resumed; end the command if there is none."""
    async with database(settings.persistence) as pool:
        job = await JobTable(pool).get(identifier, JobKind.BACKFILL)
    if job is None or not job.resumable:
        state = f"it is {job.state}" if job else "there is none"
        fail(f"no backfill {identifier} is left to resume: {state}")
    return job


async def _preview(settings: Settings, names: tuple[str, str], request: Request) -> BackfillStatus:
    async with (
        database(settings.persistence) as pool,
        two_logs(settings, *names, pool=pool) as (first, second),
    ):
        return await Backfill(pool, first, second, request).preview()


async def _run(
    settings: Settings, names: tuple[str, str], request: Request
) -> tuple[BackfillStatus, Job]:
    async with database(settings.persistence) as pool, AsyncExitStack() as logs:
        await must_not_be_retired(pool, names)  # the second log is made if it does not exist
        first, second = await logs.enter_async_context(
            two_logs(settings, *names, make=True, pool=pool)
        )
        work = Backfill(pool, first, second, request)
        task = asyncio.create_task(work.run())
        try:
            await _show(work, task)
            await task
        except JobRunning as error:
            fail(f"{error}; see it with: crossfade jobs list --kind backfill")
        except JobStopped:
            records = counted(work.status.appended, "record")
            fail(f"cancelled; what was appended stays: {records}")
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            err.print("interrupted; the same command goes on where it stopped")
            raise
        assert work.appends.job is not None
        job = await JobTable(pool).get(work.appends.job.id)
        assert job is not None
        return work.status, job


async def _show(work: Backfill, task: asyncio.Task[BackfillStatus]) -> None:
    with progress_bar(err) as bar:
        shown = bar.add_task("comparing", total=None)
        while not task.done():
            status = work.status
            what = f"{status.stage}, {status.examined} examined"
            if work.appends.job is not None and work.appends.job.error:
                what = f"waiting: {work.appends.job.error}"
            bar.update(
                shown,
                total=status.missing or None,
                completed=status.appended + status.present,
                description=what,
            )
            await asyncio.wait([task], timeout=_REFRESH)


def _left_out(status: BackfillStatus, target: str) -> None:
    if status.uncopied:
        out.print(
            f"{status.uncopied} are left out: older than what {target} holds, and the workers are "
            "done with them (--everything takes them too)"
        )
