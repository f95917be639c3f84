"""``crossfade dlq redrive``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated
from uuid import UUID

import msgspec
import typer

from compose.commands.dlq.selection import (
    All,
    Cause,
    Conversation,
    Ids,
    Message,
    Newer,
    Older,
    Why,
    chosen,
    conditions,
    must_be_pending,
)
from compose.commands.jobs import database, follow, say_end
from compose.commands.options.bounds import LARGEST_INTEGER
from compose.commands.options.common import DryRun, Json
from compose.commands.options.operator_action import caller
from compose.output import client_settings, err, fail, out, run
from compose.process.context import ProcessContext
from compose.process.logs.reconnecting import ReconnectingTransport
from compose.process.logs.transports import shadowed
from compose.settings import Settings, otel_variables
from compose.terminal import paragraph
from otel.metrics import Metrics
from otel.tracing.start import start as start_tracing
from persistence.database.pool import Pool
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.redrive import MOST_REDRIVES, Preview, Redriver
from persistence.dead_letters.selection import Selection, described
from persistence.fleet.log_choice import Choice, choice_of, choices
from persistence.fleet.migration_state import state
from persistence.fleet.processes import chosen_by, processes
from persistence.operator_actions import Actions
from transport.contract import Transport
from transport.existing import must_exist
from transport.features.observed import ObservedTransport
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["redrive"]


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
        typer.Option(min=0, max=LARGEST_INTEGER, metavar="N", help="Most a second; 0: no limit."),
    ] = 0,
    most_redrives: Annotated[
        int,
        typer.Option(
            min=1,
            max=LARGEST_INTEGER,
            metavar="N",
            help="Leave out letters that were redriven so often, unless an ID names them.",
        ),
    ] = MOST_REDRIVES,
    dry_run: DryRun = False,
    resume: Annotated[
        UUID | None, typer.Option(metavar="REDRIVE", help="Resume one that did not end.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Append dead letters to the primary log again, in order.

    A redrive never doubles a row. Ctrl-C stops it after the present batch; --resume continues it.
    It is a job: 'crossfade jobs' lists, watches and cancels it from elsewhere.
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


async def _must_be_pending(settings: Settings, ids: list[int]) -> None:
    async with database(settings.persistence) as pool:
        await must_be_pending(DeadLetters(pool), ids)


async def _preview(settings: Settings, selection: Selection, most: int | None) -> Preview:
    # A preview appends nothing, so the log is not connected.
    log = create(settings.transport.transport, settings.transport)
    async with database(settings.persistence) as pool:
        return await Redriver(pool, log, Metrics()).preview(selection, most_redrives=most)


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
    async with _runner(settings) as (redriver, pool):
        who = caller()
        async with Actions(pool).recorded(
            "redrive", who=who, target=described(selection), why=None
        ) as entry:
            identifier = await redriver.start(selection, by=who, rate=rate, most_redrives=most)
            entry.result = f"redrive {identifier} begun"
        await _see_through(redriver, pool, identifier, as_json=as_json)


async def _resume(settings: Settings, identifier: UUID, *, as_json: bool) -> None:
    async with _runner(settings) as (redriver, pool):
        if not await redriver.resume(identifier):
            found = await redriver.progress(identifier)
            state = f"it is {found.state}" if found else "there is none"
            fail(f"no redrive {identifier} is left to resume: {state}")
        await _see_through(redriver, pool, identifier, as_json=as_json)


async def _see_through(redriver: Redriver, pool: Pool, identifier: UUID, *, as_json: bool) -> None:
    err.print(f"redrive {identifier}")
    try:
        say_end(await follow(pool, identifier), as_json=as_json)
    except asyncio.CancelledError:
        await redriver.close()
        err.print("interrupted; go on with:")
        err.print(paragraph(f"  crossfade dlq redrive --resume {identifier}"))
        raise


@asynccontextmanager
async def _runner(settings: Settings) -> AsyncIterator[tuple[Redriver, Pool]]:
    transport, metrics = settings.transport, Metrics()
    # Without a worker that reads the log, the redriven letters would become no rows.
    await must_exist(transport.transport, transport)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(database(settings.persistence))
        await _must_write_as_processes(pool, transport)
        tracing = start_tracing(
            settings.tracing, transport, metrics.registry, environment=otel_variables()
        )
        stack.push_async_callback(asyncio.to_thread, tracing.close)
        context = ProcessContext(settings, pool, metrics, f"redrive-{os.getpid()}", tracing)
        primary = await stack.enter_async_context(create(transport.transport, transport))
        log: Transport = ObservedTransport(primary, tracing.append_observers(transport.transport))
        if transport.transport_shadow is not None:
            # Redriven records go to both logs, like every append.
            shadow = ReconnectingTransport(
                create(transport.transport_shadow, transport),
                needed=transport.transport_shadow_mode == "sync",
                observers=tracing.append_observers(transport.transport_shadow),
            )
            log = await stack.enter_async_context(
                shadowed(context, log, await stack.enter_async_context(shadow))
            )
        redriver = Redriver(pool, log, metrics)
        stack.push_async_callback(redriver.close)
        yield redriver, pool


async def _must_write_as_processes(pool: Pool, settings: TransportSettings) -> None:
    """End the command if its settings write other logs than the processes do.

    A command's settings may be those of an earlier phase. Then perhaps nobody reads its log.
    """
    standing = await state(pool)
    if standing is None:
        return
    ours = choice_of(settings)
    expected = [choices(standing.pair)[number] for number in sorted(standing.expected)]
    running = [chosen_by(process) for process in await processes(pool) if process.live]
    if not any(_writes(ours) == _writes(choice) for choice in (*expected, *running)):
        fail(
            f"no process writes to the logs of these settings ({_told(ours)}), so perhaps nobody "
            f"would read what is redriven. Set {_told(expected[-1])}, or redrive in the console"
        )


def _writes(choice: Choice) -> tuple[str, str | None, str | None]:
    return choice.transport, choice.shadow, choice.mode


def _told(choice: Choice) -> str:
    return " ".join(f"{name}={value}" for name, value in choice.environment().items())
