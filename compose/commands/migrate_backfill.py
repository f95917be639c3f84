"""``crossfade migrate backfill``: append to one log what another has and it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

import msgspec
import typer

from compose.commands.dlq_selection import LARGEST_INTEGER, caller
from compose.commands.migrate_logs import Since, moment, other, two_logs
from compose.commands.options import DryRun, Json, Wide
from compose.grid import Grid
from compose.output import client_settings, err, fail, out, run
from compose.settings import Settings
from compose.terminal import progress_bar
from migration_guide.backfill.request import BackfillStatus, Request
from migration_guide.backfill.run import Backfill, Busy
from migration_guide.backfill.state import BackfillProgress, BackfillState, Cancelled
from migration_guide.parity.comparison import ParityLimits
from persistence.database.pool import Pool, connect
from persistence.tables.states import RunState

__all__ = ["backfill", "backfills"]

_REFRESH = 0.2
_INTERRUPTED = 130


def backfill(
    *,
    dry_run: DryRun = False,
    since: Since = None,
    from_rows: Annotated[
        bool,
        typer.Option("--from-rows", help="From PostgreSQL: what the source's log has trimmed."),
    ] = False,
    rate: Annotated[
        int,
        typer.Option(
            min=0,
            max=LARGEST_INTEGER,
            metavar="N",
            help="At most so many records a second; 0: no limit.",
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
        float,
        typer.Option(min=0, metavar="SECONDS", help="Leave what is younger to the live shadow."),
    ] = Request().limits.settle,
    cancel: Annotated[
        UUID | None, typer.Option(metavar="BACKFILL", help="Cancel one, wherever it runs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Append to one log what another has and it lacks.

    In order, beside live traffic, as often as you like.

    Only what the target lacks is appended, so a second run appends nothing. Ctrl-C stops it; the
    next one like it goes on where it stopped.
    """
    settings = client_settings()
    if cancel is not None:
        if not run(lambda: _cancel(settings, cancel)):
            fail(f"no backfill {cancel} is under way")
        if as_json:
            out.json({"cancelled": str(cancel)})
            return
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
        limits=ParityLimits(settle=settle),
    )
    if dry_run:
        status = run(lambda: _preview(settings, (one, two), request))
        if as_json:
            out.json({"source": one, "target": two, "wouldAppend": status.missing, **_data(status)})
            return
        out.print(f"would append {status.missing} records to {two}")
        _left_out(status, two)
        return
    status = run(lambda: _run(settings, (one, two), request))
    if as_json:
        out.json({"source": one, "target": two, **_data(status)})
    else:
        _say(status, two)
    if status.refused:
        fail(f"{status.refused} records can't be copied: a key or a header of theirs is not text")


def backfills(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="At most so many.")] = 20,
    as_json: Json = False,
    _wide: Wide = False,
) -> None:
    """List the latest backfills, newest first."""

    async def main() -> list[BackfillProgress]:
        async with _database(client_settings()) as pool:
            return await BackfillState(pool).recent(limit + 1)

    found = run(main)
    recent = found[:limit]
    if len(found) > limit:
        err.print(f"These are the latest {limit}; --limit shows more.")
    if as_json:
        out.json(msgspec.to_builtins(recent))
        return
    if not recent:
        err.print("There were no backfills yet.")
        return
    table = Grid()
    table.add_column("backfill")
    for heading, drop in (("from", 4), ("into", 5), ("state", 0), ("appended", 3)):
        table.add_column(heading, drop=drop)
    table.add_column("started at", drop=2)
    table.add_column("by", drop=6)
    table.add_column("error", prose=True, drop=1)
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


def _data(status: BackfillStatus) -> dict[str, object]:
    data: dict[str, object] = msgspec.to_builtins(status)
    return data


def _say(status: BackfillStatus, target: str) -> None:
    out.print(f"done: {status.appended} records appended to {target}")
    if status.present:
        out.print(f"{status.present} had come there meanwhile")
    if status.gaps_repaired:
        out.print(f"{status.gaps_repaired} gaps of the ledger closed")
    _left_out(status, target)


async def _cancel(settings: Settings, identifier: UUID) -> bool:
    async with _database(settings) as pool:
        return await BackfillState(pool).finish(identifier, RunState.CANCELLED)


async def _preview(settings: Settings, names: tuple[str, str], request: Request) -> BackfillStatus:
    async with _database(settings) as pool, two_logs(settings, *names) as (one, two):
        return await Backfill(pool, one, two, request).preview()


async def _run(settings: Settings, names: tuple[str, str], request: Request) -> BackfillStatus:
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


async def _show(work: Backfill, task: asyncio.Task[BackfillStatus]) -> None:
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


def _left_out(status: BackfillStatus, target: str) -> None:
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
