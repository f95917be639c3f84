"""``crossfade migrate backfill``: append to one log what another has and it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

import typer

from compose.commands.dlq_selection import LARGEST_INTEGER, caller
from compose.commands.migrate_logs import Since, moment, other, two_logs
from compose.console import client_settings, err, fail, out, run
from compose.settings import Settings
from compose.terminal import Grid, progress_bar
from migration_guide.backfill.request import Request, Status
from migration_guide.backfill.run import Backfill, Busy
from migration_guide.backfill.state import BackfillProgress, BackfillState, Cancelled
from migration_guide.parity.comparison import Limits
from persistence.database import Pool, connect
from persistence.states import RunState

__all__ = ["backfill", "backfills"]

_REFRESH = 0.2
_INTERRUPTED = 130


def backfill(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do.")] = False,
    since: Since = None,
    from_rows: Annotated[
        bool,
        typer.Option("--from-rows", help="From PostgreSQL: what the source's log has trimmed."),
    ] = False,
    rate: Annotated[
        int,
        typer.Option(
            min=0, max=LARGEST_INTEGER, help="At most so many records a second; 0: no limit."
        ),
    ] = Request().rate,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything", help="Also old records that workers are done with and it has trimmed."
        ),
    ] = False,
    source: Annotated[str | None, typer.Option(help="The log to copy from; TRANSPORT.")] = None,
    into: Annotated[str | None, typer.Option(help="The log to copy to; TRANSPORT_SHADOW.")] = None,
    settle: Annotated[
        float, typer.Option(min=0, help="Leave what is younger (in seconds) to the live shadow.")
    ] = Request().limits.settle,
    cancel: Annotated[
        UUID | None, typer.Option(metavar="BACKFILL", help="Cancel one, wherever it runs.")
    ] = None,
) -> None:
    """Append what is missing: in order, beside live traffic, as often as you like.

    Only what the target lacks is appended, so a second run appends nothing. Ctrl-C stops it; the
    next one like it goes on where it stopped.
    """
    settings = client_settings()
    if cancel is not None:
        if not run(lambda: _cancel(settings, cancel)):
            fail(f"no backfill {cancel} is under way")
        out.print("cancelled")
        return
    one = source or settings.transport.transport
    two = other(settings, one, into, "--into")
    request = Request(
        from_rows=from_rows,
        since=moment(since, "--since"),
        rate=rate,
        everything=everything,
        by=caller(),
        limits=Limits(settle=settle),
    )
    if dry_run:
        status = run(lambda: _preview(settings, (one, two), request))
        out.print(f"would append {status.missing} records to {two}")
        _left_out(status, two)
        return
    status = run(lambda: _run(settings, (one, two), request))
    out.print(f"done: {status.appended} records appended to {two}")
    if status.present:
        out.print(f"{status.present} had come there meanwhile")
    if status.gaps_repaired:
        out.print(f"{status.gaps_repaired} gaps of the ledger closed")
    _left_out(status, two)
    if status.refused:
        fail(f"{status.refused} records can't be copied: a key or a header of theirs is not text")


def backfills(
    *, limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20
) -> None:
    """List the latest backfills, newest first."""

    async def main() -> list[BackfillProgress]:
        async with _database(client_settings()) as pool:
            return await BackfillState(pool).recent(limit)

    recent = run(main)
    if not recent:
        err.print("There were no backfills yet.")
        return
    table = Grid()
    table.add_column("backfill", min_width=36, no_wrap=True)  # to be typed again: never cut
    for heading in ("from", "into", "state", "appended", "started at", "by", "error"):
        table.add_column(heading)
    for one in recent:
        table.add_row(
            one.id,
            "rows" if one.from_rows else one.source,
            one.target,
            "stalled" if one.stalled else one.state,
            f"{one.appended} of {one.missing}",
            one.started_at,
            one.started_by,
            one.error or "",
        )
    out.print(table)


async def _cancel(settings: Settings, identifier: UUID) -> bool:
    async with _database(settings) as pool:
        return await BackfillState(pool).finish(identifier, RunState.CANCELLED)


async def _preview(settings: Settings, names: tuple[str, str], request: Request) -> Status:
    async with _database(settings) as pool, two_logs(settings, *names) as (one, two):
        return await Backfill(pool, one, two, request).preview()


async def _run(settings: Settings, names: tuple[str, str], request: Request) -> Status:
    async with _database(settings) as pool, two_logs(settings, *names) as (one, two):
        work = Backfill(pool, one, two, request)
        task = asyncio.create_task(work.run())
        try:
            await _show(work, task)
            return await task
        except Busy as error:
            fail(f"{error}; see it with: crossfade migrate backfills")
        except Cancelled:
            fail(f"cancelled; {work.status.appended} records were appended and stay")
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            err.print("interrupted; the same command goes on where it stopped")
            raise


async def _show(work: Backfill, task: asyncio.Task[Status]) -> None:
    with progress_bar(err) as bar:
        shown = bar.add_task("comparing", total=None)
        while not task.done():
            status = work.status
            what = f"{status.stage}, {status.examined} examined"
            if status.stage == "waiting":
                what = f"waiting: {status.error}"
            bar.update(
                shown,
                total=status.missing or None,
                completed=status.appended + status.present,
                description=what,
            )
            await asyncio.wait([task], timeout=_REFRESH)


def _left_out(status: Status, target: str) -> None:
    if status.uncopied:
        out.print(
            f"{status.uncopied} are left out: older than what {target} holds, and the workers are "
            "done with them (--everything takes them too)"
        )


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Pool]:
    pool = await connect(settings.persistence)
    try:
        yield pool
    finally:
        pool.terminate()
