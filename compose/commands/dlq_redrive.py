"""``crossfade dlq redrive`` and its companions: start, watch, cancel and take up redrives."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated
from uuid import UUID

import typer

from compose.commands.dlq_selection import (
    LARGEST_INTEGER,
    All,
    Cause,
    Conversation,
    Ids,
    Message,
    Newer,
    Older,
    Why,
    caller,
    chosen,
    conditions,
    must_be_pending,
)
from compose.console import client_settings, err, fail, out, run
from compose.logs import shadowed
from compose.patient import PatientTransport
from compose.settings import Settings, otel_variables
from compose.terminal import Grid, progress_bar
from otel.metrics import Metrics
from otel.tracing.start import start as start_tracing
from persistence.database import Pool, connect
from persistence.dead_letters import DeadLetters
from persistence.operator_actions import Actions
from persistence.redrive import MOST_REDRIVES, Preview, RedriveProgress, Redriver
from persistence.selection import Selection, described
from persistence.states import RunState
from transport.contract import Transport
from transport.registry import create

__all__ = ["cancel", "redrive", "redrives", "watch"]

_REFRESH = 0.2

_Redrive = Annotated[UUID, typer.Argument(metavar="REDRIVE", help="The redrive's id.")]


def redrive(
    ids: Ids = None,
    *,
    everything: All = False,
    reason: Why = None,
    cause: Cause = None,
    conversation: Conversation = None,
    message: Message = None,
    older_than: Older = None,
    newer_than: Newer = None,
    rate: Annotated[
        int, typer.Option(min=0, max=LARGEST_INTEGER, help="At most so many a second; 0: no limit.")
    ] = 0,
    most_redrives: Annotated[
        int,
        typer.Option(
            min=1, max=LARGEST_INTEGER, help="Leave out what was redriven so often (ids never are)."
        ),
    ] = MOST_REDRIVES,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do.")] = False,
    resume: Annotated[
        UUID | None, typer.Option(metavar="REDRIVE", help="Take up one that was interrupted.")
    ] = None,
) -> None:
    """Append dead letters to the primary log again, in order. A row is never doubled by it.

    Ctrl-C stops after the batch in hand; --resume goes on from there.
    """
    settings = client_settings()
    if resume is not None:
        run(lambda: _resume(settings, resume))
        return
    selection = chosen(
        ids,
        conditions(
            reason,
            conversation,
            message,
            older_than=older_than,
            newer_than=newer_than,
            cause=cause,
        ),
        everything=everything,
    )
    if ids:
        run(lambda: _must_be_pending(settings, ids))
    most = None if ids else most_redrives
    if dry_run:
        _say(run(lambda: _preview(settings, selection, most)), most)
    else:
        run(lambda: _start(settings, selection, rate, most))


def redrives(
    *, limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20
) -> None:
    """List the latest redrives, newest first."""

    async def main() -> list[RedriveProgress]:
        async with _watcher(client_settings()) as redriver:
            return await redriver.recent(limit)

    recent = run(main)
    if not recent:
        err.print("There were no redrives yet.")
        return
    table = Grid()
    table.add_column("redrive", min_width=36, no_wrap=True)  # to be typed again: never cut
    for heading in ("state", "redriven", "failed", "started at", "by", "error"):
        table.add_column(heading)
    for one in recent:
        table.add_row(
            one.id,
            "stalled" if one.stalled else one.state,
            f"{one.redriven} of {one.total}",
            str(one.failed),
            one.started_at,
            one.started_by,
            one.error or "",
        )
    out.print(table)


def watch(identifier: _Redrive) -> None:
    """Watch a redrive, wherever it runs, until it is over or stalled."""

    async def main() -> None:
        async with _watcher(client_settings()) as redriver:
            _ended(await _follow(redriver, identifier, until_stalled=True))

    run(main)


def cancel(identifier: _Redrive) -> None:
    """Stop a redrive, wherever it runs, after the batch in hand. The rest stays pending."""

    async def main() -> bool:
        async with _watcher(client_settings()) as redriver:
            return await redriver.cancel(identifier)

    if not run(main):
        fail(f"no redrive {identifier} is under way")
    out.print("cancelled")


async def _must_be_pending(settings: Settings, ids: list[int]) -> None:
    pool = await connect(settings.persistence)
    try:
        await must_be_pending(DeadLetters(pool), ids)
    finally:
        await pool.close()


async def _preview(settings: Settings, selection: Selection, most: int | None) -> Preview:
    async with _watcher(settings) as redriver:
        return await redriver.preview(selection, most_redrives=most)


def _say(preview: Preview, most: int | None) -> None:
    out.print(f"would redrive {preview.letters}")
    for reason, letters in preview.by_reason.items():
        out.print(f"  {reason}: {letters}")
    if preview.redriven_too_often:
        out.print(
            f"would leave out {preview.redriven_too_often}, redriven {most} times already "
            "(--most-redrives, or name their ids)"
        )


async def _start(settings: Settings, selection: Selection, rate: int, most: int | None) -> None:
    async with _runner(settings) as (redriver, actions):
        who = caller()
        async with actions.recorded(
            "redrive", who=who, target=described(selection), why=None
        ) as entry:
            identifier = await redriver.start(selection, by=who, rate=rate, most_redrives=most)
            entry.result = f"redrive {identifier} begun"
        await _see_through(redriver, identifier)


async def _resume(settings: Settings, identifier: UUID) -> None:
    async with _runner(settings) as (redriver, _):
        if not await redriver.resume(identifier):
            fail(f"no redrive {identifier} is left to resume")
        await _see_through(redriver, identifier)


async def _see_through(redriver: Redriver, identifier: UUID) -> None:
    err.print(f"redrive {identifier}")
    try:
        _ended(await _follow(redriver, identifier, until_stalled=False))
    except asyncio.CancelledError:
        await redriver.close()
        err.print(f"interrupted; go on with: crossfade dlq redrive --resume {identifier}")
        raise


async def _follow(redriver: Redriver, identifier: UUID, *, until_stalled: bool) -> RedriveProgress:
    with progress_bar(err) as bar:
        task = bar.add_task("redriving", total=None)
        while True:
            progress = await redriver.progress(identifier)
            if progress is None:
                fail(f"there is no redrive {identifier}")
            waits = f"waiting: {progress.error}" if progress.error else "redriving"
            bar.update(
                task,
                total=progress.total,
                completed=progress.redriven + progress.failed,
                description=waits,
            )
            if progress.state != RunState.RUNNING or (until_stalled and progress.stalled):
                return progress
            await asyncio.sleep(_REFRESH)


def _ended(progress: RedriveProgress) -> None:
    state = "stalled" if progress.stalled else progress.state
    line = f"{state}: redrove {progress.redriven} of {progress.total}"
    if progress.failed:
        line += f"; {progress.failed} could not be appended and stay pending ({progress.error})"
    if progress.resumable:
        fail(line, f"go on with: crossfade dlq redrive --resume {progress.id}")
    if state != RunState.DONE or progress.failed:
        fail(line)
    out.print(line)


@asynccontextmanager
async def _runner(settings: Settings) -> AsyncIterator[tuple[Redriver, Actions]]:
    transport, metrics = settings.transport, Metrics()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(_pool(settings))
        tracing = start_tracing(
            settings.tracing, transport, metrics.registry, environment=otel_variables()
        )
        stack.push_async_callback(asyncio.to_thread, tracing.close)
        primary = await stack.enter_async_context(create(transport.transport, transport))
        log = tracing.traced(primary)
        if transport.transport_shadow is not None:
            # What is redriven goes to both logs, like everything that is appended.
            shadow = PatientTransport(
                create(transport.transport_shadow, transport),
                needed=transport.transport_shadow_mode == "sync",
            )
            log = await stack.enter_async_context(
                shadowed(
                    log,
                    tracing.traced(await stack.enter_async_context(shadow)),
                    transport,
                    pool=pool,
                    metrics=metrics,
                    member=f"redrive-{os.getpid()}",
                )
            )
        yield await stack.enter_async_context(_redriver(pool, log, metrics)), Actions(pool)


@asynccontextmanager
async def _watcher(settings: Settings) -> AsyncIterator[Redriver]:
    # It appends nothing, so its log is never connected.
    log = create(settings.transport.transport, settings.transport)
    async with _pool(settings) as pool, _redriver(pool, log, Metrics()) as redriver:
        yield redriver


@asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[Pool]:
    pool = await connect(settings.persistence)
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def _redriver(pool: Pool, log: Transport, metrics: Metrics) -> AsyncIterator[Redriver]:
    redriver = Redriver(pool, log, metrics)
    try:
        yield redriver
    finally:
        await redriver.close()
