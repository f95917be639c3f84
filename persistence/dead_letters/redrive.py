"""Redrive: append dead letters to the log again, in order, at a rate, watched and cancellable.

A letter is held by a row lock while its record is published and settled in the same transaction.
So a crash in the middle leaves it pending, two redrives never take the same letter, and nothing
has to be cleaned up. What a crash may cause is a second append; the row of a message can't double
(its key is unique), so neither can a redrive double it (promise 7).

A redrive takes the letters that were there when it began. One that fails again is a new letter,
which counts how often that happened: so a redrive ends, and a selection leaves out those that
have been through it too often.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from uuid import UUID

import msgspec
import structlog

from otel.metrics import Metrics
from persistence.database.outage import stopped_within
from persistence.database.pool import Pool, using
from persistence.dead_letters.metrics import DeadLetterMetrics
from persistence.dead_letters.redrive_state import RedriveProgress, RedriveState
from persistence.dead_letters.republish import RedriveAttempt, republish
from persistence.dead_letters.selection import Selection
from persistence.errors import PersistenceError
from persistence.tables.states import RunState
from transport.backoff import Backoff
from transport.contract import Transport
from transport.errors import TransportError

__all__ = ["MOST_REDRIVES", "Preview", "RedriveProgress", "Redriver"]

_log = structlog.get_logger(__name__)

MOST_REDRIVES = 3
"""A letter redriven so often is left out, unless it is asked for."""
_AT_ONCE = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0


class Preview(msgspec.Struct, frozen=True, rename="camel"):
    """What a redrive would do: how many letters by reason, and how many it would leave out."""

    letters: int
    by_reason: dict[str, int]
    redriven_too_often: int


class _Step(msgspec.Struct, frozen=True):
    attempt: RedriveAttempt
    rate: int


class Redriver:
    """Starts redrives in this process, and watches and cancels them wherever they run.

    ``transport`` is the primary log. :meth:`close` ends what runs here; it can be resumed.
    """

    def __init__(self, pool: Pool, transport: Transport, metrics: Metrics) -> None:
        self._pool = pool
        self._state = RedriveState(pool)
        self._transport = transport
        self._counter = metrics.of(DeadLetterMetrics).redriven
        self._stop = asyncio.Event()
        self._running: dict[UUID, asyncio.Task[None]] = {}

    async def preview(
        self, selection: Selection, *, most_redrives: int | None = MOST_REDRIVES
    ) -> Preview:
        """Return what :meth:`start` would take, without taking anything.

        Raises:
            Outage: PostgreSQL can't tell now.
        """
        return Preview(*await self._state.census(selection, most_redrives))

    async def start(
        self,
        selection: Selection,
        *,
        by: str,
        rate: int = 0,
        most_redrives: int | None = MOST_REDRIVES,
    ) -> UUID:
        """Begin to redrive the pending letters of ``selection``; return the redrive's id.

        ``rate`` is the most letters a second (0: as fast as the log takes them). Letters redriven
        ``most_redrives`` times already are left out; ``None`` leaves out none.

        Raises:
            Outage: PostgreSQL can't take it now; nothing was begun.
        """
        identifier = await self._state.create(selection, by, rate, most_redrives)
        self._spawn(identifier)
        return identifier

    async def resume(self, identifier: UUID) -> bool:
        """Take up a redrive whose process ended; ``False`` if there is none that is not over."""
        if not await self._state.reopen(identifier):
            return False
        self._spawn(identifier)
        return True

    async def progress(self, identifier: UUID) -> RedriveProgress | None:
        """Return how far a redrive is, wherever it runs; ``None`` for an unknown id."""
        return await self._state.progress(identifier)

    async def recent(self, limit: int = 20) -> list[RedriveProgress]:
        """Return the latest redrives, newest first."""
        return await self._state.recent(limit)

    async def cancel(self, identifier: UUID) -> bool:
        """Stop a redrive after the batch in hand; ``False`` if it was over or is unknown.

        What it has appended stays appended; the rest stays pending.
        """
        return await self._state.finish(identifier, RunState.CANCELLED)

    async def wait(self, identifier: UUID) -> None:
        """Return when a redrive that runs in this process has ended here."""
        if task := self._running.get(identifier):
            await asyncio.shield(task)

    async def close(self) -> None:
        """Stop what runs here after the batch in hand. It can be resumed, here or elsewhere."""
        self._stop.set()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _spawn(self, identifier: UUID) -> None:
        task = self._running.get(identifier)
        if task is None or task.done():
            self._running = {i: one for i, one in self._running.items() if not one.done()}
            task = self._running[identifier] = asyncio.create_task(self._run(identifier))
            task.add_done_callback(_notice)

    async def _run(self, identifier: UUID) -> None:
        ended, why = RunState.INTERRUPTED, None
        try:
            finished = await self._steps(identifier)
            ended = RunState.DONE if finished else RunState.INTERRUPTED
        except Exception as error:
            ended = RunState.FAILED
            # Its text may quote what a message says, which only the log may know how to withhold.
            why = f"{type(error).__name__}: the log of the process that ran it has the traceback"
            _log.exception("Redrive failed; it can be resumed", redrive=str(identifier))
            raise
        finally:
            with contextlib.suppress(PersistenceError):
                await self._state.finish(identifier, ended, why)
            _log.info("Redrive ended", redrive=str(identifier), state=ended)

    async def _steps(self, identifier: UUID) -> bool:
        """Redrive batch after batch; return whether nothing is left (or it was cancelled)."""
        began, done = time.monotonic(), 0
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        skip = 0  # letters up to this id were found not to be appendable
        while not self._stop.is_set():
            trouble: object = None
            try:
                step = await self._step(identifier, skip)
            except (PersistenceError, TransportError) as error:
                trouble = error
            else:
                if step is None:
                    return True
                done += len(step.attempt.appended)
                self._counter.inc(len(step.attempt.appended))
                trouble = step.attempt.error if step.attempt.waiting else None
            if trouble:
                _log.warning("Redrive waits", redrive=str(identifier), error=str(trouble))
                delay = backoff.next()
            else:
                assert step is not None
                backoff.reset()
                skip = max([skip, *step.attempt.failed])
                delay = began + done / step.rate - time.monotonic() if step.rate else 0.0
            if delay > 0:
                await stopped_within(self._stop, delay)
        return False

    async def _step(self, identifier: UUID, skip: int) -> _Step | None:
        """Redrive one batch in one transaction; ``None`` when there is nothing left to do."""
        async with using(self._pool) as connection, connection.transaction():
            run = await self._state.running(connection, identifier)
            if run is None:
                return None
            limit = min(_AT_ONCE, run.rate) if run.rate else _AT_ONCE
            letters = await self._state.take(connection, run, skip, limit)
            if not letters:
                return None
            attempt = await republish(self._transport, letters)
            await self._state.settle(connection, run, attempt)
            return _Step(attempt, run.rate)


def _notice(task: asyncio.Task[None]) -> None:
    # Its error is logged, and its state says so; nobody has to be waiting for it.
    if not task.cancelled():
        task.exception()
