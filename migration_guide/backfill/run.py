"""Run a backfill: find what the target lacks, append it in order, look again, until all is there.

Safe to run twice, and to be killed anywhere: what is missing is found by comparing, never assumed.
An append whose outcome is not known is not repeated; the next comparison shows whether it stands
there. Beside live traffic it leaves the newest seconds alone (``settle``), which are the live
shadow's. Should a copy of those come later still, the message has one record more, and one row.

While PostgreSQL or a log is down it waits and goes on. One backfill at a time writes to a target.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from migration_guide.backfill.from_log import FromLog
from migration_guide.backfill.from_rows import FromRows
from migration_guide.backfill.request import BackfillStatus, Rate, Request
from migration_guide.backfill.state import BackfillState, Begun
from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.fleet.leader_lock import elected
from persistence.tables.states import RunState
from transport.backoff import Backoff
from transport.contract import Appended, Envelope, Outcome, Remembered, Transport
from transport.errors import ConfigurationError, TransportError

__all__ = ["Backfill", "Busy"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0


class Busy(Exception):  # noqa: N818 - a state of the world, not a mistake
    """Another process backfills the same target now."""


class Backfill:
    """One run, of one request, from ``source`` into ``target`` (both entered by the caller)."""

    def __init__(self, pool: Pool, source: Transport, target: Transport, request: Request) -> None:
        self.status = BackfillStatus()
        self.begun: Begun | None = None
        self.request = request
        self.source = source
        self.target = target
        self.pool = pool
        self.state = BackfillState(pool)
        self.rate = Rate(request.rate)
        self.cursor: dict[str, str] = {}

    async def run(self) -> BackfillStatus:
        """Return when the target lacks nothing of what was asked for.

        Raises:
            Busy: another one runs.
            Cancelled: somebody cancelled it.
            ConfigurationError: the two logs can't be compared.
        """
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        work = FromRows(self) if self.request.from_rows else FromLog(self)
        while True:
            done = self.status.appended
            try:
                async with elected(self.pool, f"backfill {self.target.name}") as lock:
                    if lock is None and self.begun is None:
                        raise Busy(f"another backfill into {self.target.name} is running")
                    if lock is not None and await self._attempt(work):
                        return self.status
            except ConfigurationError:
                raise
            except (TransportError, Outage) as error:
                self.status.stage, self.status.error = "waiting", str(error)
                if self.status.appended > done:
                    backoff.reset()
                await asyncio.sleep(backoff.next())

    async def preview(self) -> BackfillStatus:
        """Return what a run would do; nothing is appended or written.

        Raises:
            ConfigurationError: the two logs can't be compared.
            TransportError, Outage: the logs or the rows can't be read.
        """
        if self.request.from_rows:
            self.status.missing = await FromRows(self).count()
        else:
            self.status.missing = await FromLog(self).count()
        return self.status

    async def _attempt(self, work: FromLog | FromRows) -> bool:
        """Do one round; true if there was nothing left to do."""
        if self.begun is None:
            await self._begin()
        assert self.begun is not None
        try:
            if await work.round():
                return False
        except asyncio.CancelledError:
            # Whoever asks for the same again goes on here.
            await self.state.finish(self.begun.id, RunState.INTERRUPTED)
            raise
        self.status.stage, self.status.error = "done", None
        await self.note()
        await self.state.finish(self.begun.id, RunState.DONE)
        return True

    async def _begin(self) -> None:
        request = self.request
        since = None if request.since is None else datetime.fromtimestamp(request.since, UTC)
        self.begun = await self.state.begin(
            self.source.name,
            self.target.name,
            from_rows=request.from_rows,
            since=since,
            rate=request.rate,
            by=request.by,
        )
        self.cursor = dict(self.begun.cursor)
        self.status.appended, self.status.present = self.begun.appended, self.begun.present

    async def append(self, envelopes: Sequence[Envelope], through: dict[str, str]) -> None:
        """Append, in order and at the rate; note ``through`` once all of them are there.

        Raises:
            TransportError: one of them is not, or not surely. Compare again.
            Cancelled: somebody cancelled it.
        """
        failure: TransportError | None = None
        if envelopes:
            await self.rate.spend(len(envelopes))
            failure = self._count(await self.target.publish(envelopes))
        if failure is not None:
            await self.note(str(failure))
            raise failure
        self.cursor |= through
        await self.note()

    def _count(self, outcomes: Sequence[Outcome]) -> TransportError | None:
        failure: TransportError | None = None
        for outcome in outcomes:
            if isinstance(outcome, Appended):
                self.status.appended += 1
            elif isinstance(outcome, Remembered):
                self.status.present += 1
            else:
                failure = failure or outcome
        return failure

    async def note(self, error: str | None = None) -> None:
        """Write how far it is.

        Raises:
            Cancelled: somebody cancelled it.
        """
        assert self.begun is not None
        status = self.status
        status.error = error
        await self.state.note(
            self.begun.id,
            cursor=self.cursor,
            examined=status.examined,
            missing=status.missing,
            appended=status.appended,
            present=status.present,
            error=error,
        )
