"""``crossfade dlq redrive`` and its companions: start, watch, cancel and take up redrives."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated
from uuid import UUID

import msgspec
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
from compose.commands.options import DryRun, Json, JsonLines, Wide
from compose.grid import Grid
from compose.output import client_settings, err, fail, out, run
from compose.process.reconnecting import ReconnectingTransport
from compose.process.transports import shadowed
from compose.settings import Settings, otel_variables
from compose.terminal import paragraph, progress_bar
from otel.metrics import Metrics
from otel.tracing.start import start as start_tracing
from persistence.database.pool import Pool, connect
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.redrive import MOST_REDRIVES, Preview, RedriveProgress, Redriver
from persistence.dead_letters.selection import Selection, described
from persistence.operator_actions import Actions
from persistence.tables.states import RunState
from transport.contract import Transport
from transport.observed import ObservedTransport
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
        int,
        typer.Option(
            min=0, max=LARGEST_INTEGER, metavar="N", help="At most so many a second; 0: no limit."
        ),
    ] = 0,
    most_redrives: Annotated[
        int,
        typer.Option(
            min=1,
            max=LARGEST_INTEGER,
            metavar="N",
            help="Leave out what was redriven so often (ids never are).",
        ),
    ] = MOST_REDRIVES,
    dry_run: DryRun = False,
    resume: Annotated[
        UUID | None, typer.Option(metavar="REDRIVE", help="Take up one that was interrupted.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Append dead letters to the primary log again, in order.

    No row is doubled by it. Ctrl-C stops after the batch in hand; --resume goes on from there.
    """
    settings = client_settings()
    if resume is not None:
        run(lambda: _resume(settings, resume, as_json=as_json))
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
        preview = run(lambda: _preview(settings, selection, most))
        if as_json:
            out.json(msgspec.to_builtins(preview))
            return
        _say(preview, most)
    else:
        run(lambda: _start(settings, selection, rate, most, as_json=as_json))


def redrives(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="At most so many.")] = 20,
    as_json: Json = False,
    _wide: Wide = False,
) -> None:
    """List the latest redrives, newest first."""

    async def main() -> list[RedriveProgress]:
        async with _watcher(client_settings()) as redriver:
            return await redriver.recent(limit + 1)

    found = run(main)
    recent = found[:limit]
    if len(found) > limit:
        err.print(f"These are the latest {limit}; --limit shows more.")
    if as_json:
        out.json(msgspec.to_builtins(recent))
        return
    if not recent:
        err.print("There were no redrives yet.")
        return
    table = Grid()
    for heading, drop in (("redrive", 0), ("state", 0), ("redriven", 0), ("failed", 3)):
        table.add_column(heading, drop=drop)
    table.add_column("started at", drop=2)
    table.add_column("by", drop=4)
    table.add_column("error", prose=True, drop=1)
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


def watch(identifier: _Redrive, *, as_json: JsonLines = False) -> None:
    """Watch a redrive, wherever it runs, to its end.

    One that is stalled is not waited for.
    """

    async def main() -> None:
        async with _watcher(client_settings()) as redriver:
            told = _lines if as_json else _nobody
            over = await _follow(redriver, identifier, until_stalled=True, told=told)
            _ended(over, as_json=as_json, lines=True)

    run(main)


def cancel(identifier: _Redrive, *, as_json: Json = False) -> None:
    """Stop a redrive, wherever it runs, after the batch in hand.

    The rest of its dead letters stay pending.
    """

    async def main() -> bool:
        async with _watcher(client_settings()) as redriver:
            return await redriver.cancel(identifier)

    if not run(main):
        fail(f"no redrive {identifier} is under way")
    if as_json:
        out.json({"cancelled": str(identifier)})
        return
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


async def _start(
    settings: Settings, selection: Selection, rate: int, most: int | None, *, as_json: bool
) -> None:
    async with _runner(settings) as (redriver, actions):
        who = caller()
        async with actions.recorded(
            "redrive", who=who, target=described(selection), why=None
        ) as entry:
            identifier = await redriver.start(selection, by=who, rate=rate, most_redrives=most)
            entry.result = f"redrive {identifier} begun"
        await _see_through(redriver, identifier, as_json=as_json)


async def _resume(settings: Settings, identifier: UUID, *, as_json: bool) -> None:
    async with _runner(settings) as (redriver, _):
        if not await redriver.resume(identifier):
            fail(f"no redrive {identifier} is left to resume")
        await _see_through(redriver, identifier, as_json=as_json)


async def _see_through(redriver: Redriver, identifier: UUID, *, as_json: bool) -> None:
    err.print(f"redrive {identifier}")
    try:
        _ended(await _follow(redriver, identifier, until_stalled=False), as_json=as_json)
    except asyncio.CancelledError:
        await redriver.close()
        err.print("interrupted; go on with:")
        err.print(paragraph(f"  crossfade dlq redrive --resume {identifier}"))
        raise


def _nobody(_: RedriveProgress) -> None:
    pass


def _lines(progress: RedriveProgress) -> None:
    out.json(msgspec.to_builtins(progress), indent=None)


async def _follow(
    redriver: Redriver,
    identifier: UUID,
    *,
    until_stalled: bool,
    told: Callable[[RedriveProgress], None] = _nobody,
) -> RedriveProgress:
    """Return the redrive once it is over; ``told`` is given it each time it has changed before."""
    with progress_bar(err) as bar:
        task = bar.add_task("redriving", total=None)
        last = None
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
            if progress != last:
                told(progress)
                last = progress
            await asyncio.sleep(_REFRESH)


def _ended(progress: RedriveProgress, *, as_json: bool, lines: bool = False) -> None:
    """Say how it ended: with status 1 unless every letter was appended."""
    if as_json:
        out.json(msgspec.to_builtins(progress), indent=None if lines else 2)
    state = "stalled" if progress.stalled else progress.state
    line = f"{state}: redrove {progress.redriven} of {progress.total}"
    if progress.failed:
        line += f"; {progress.failed} could not be appended and stay pending ({progress.error})"
    if progress.resumable:
        fail(line, f"go on with: crossfade dlq redrive --resume {progress.id}")
    if state != RunState.DONE or progress.failed:
        fail(line)
    if not as_json:
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
        log: Transport = ObservedTransport(primary, tracing.append_observers(transport.transport))
        if transport.transport_shadow is not None:
            # What is redriven goes to both logs, like everything that is appended.
            shadow = ReconnectingTransport(
                create(transport.transport_shadow, transport),
                needed=transport.transport_shadow_mode == "sync",
                observers=tracing.append_observers(transport.transport_shadow),
            )
            log = await stack.enter_async_context(
                shadowed(
                    log,
                    await stack.enter_async_context(shadow),
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
