"""Put back a partition's lost rows, up to its group's position, before anything new is written.

::

    log          … r7 r8 r9 │ r10 r11 r12 │ r13 …
                  a row each │  no row     │ not acknowledged
             PostgreSQL's position     the group's

So a failover to a standby that was behind, or a restore from a backup, costs no message and no
order: new rows come after those that were put back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from persistence.database.outage import OutageBarrier, Stopping, stopped_within
from persistence.store.batch import Fence
from persistence.worker.recovery.positions import Floor, Positions
from transport.contract import Record

__all__ = ["ANOTHER_LOG", "LOST", "NOTED", "CatchUp", "Persist"]

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
LOST = (
    "PostgreSQL lacks acknowledged rows: it lost them in a failover or a restore; putting them "
    "back from the log"
)
ANOTHER_LOG = (
    "PostgreSQL's position was in another log than the one that is read now: every record that "
    "this log still holds is read again, and those without a row get it now"
)
NOTED = (
    "The workers' group is beyond what a standby noted in PostgreSQL: the records in between are "
    "read again, and those without a row get it now"
)
"""Logged if there are such records."""
_MOVED = (
    "The workers' group was moved past records that no worker had acknowledged: those without a "
    "row get it now"
)

Persist = Callable[[Sequence[Record]], Awaitable[int]]
"""Makes a row or a dead letter of every record; returns how many rows are new."""
RecordRows = Callable[[Fence, int, str], Awaitable[None]]
"""Records how many lost rows of a partition were put back, and why."""


class CatchUp:
    """Puts back the lost rows of one partition.

    Args:
        positions: the positions of the partition's log.
        log_barrier: the barrier in front of the log.
        persist: see ``Persist``.
        record: see ``RecordRows``.
        at_once: how many records to read at once.
        stop: ends every wait.
    """

    def __init__(
        self,
        positions: Positions,
        log_barrier: OutageBarrier,
        persist: Persist,
        record: RecordRows,
        *,
        at_once: int,
        stop: asyncio.Event,
    ) -> None:
        self._positions = positions
        self._log_barrier = log_barrier
        self._persist = persist
        self._record = record
        self._at_once = at_once
        self._stop = stop

    async def floor(self, fence: Fence) -> Floor:
        """Return the group's position in the fence's partition."""
        return await self._log_barrier.run(
            lambda: self._positions.floor(fence.partition), self._stop
        )

    async def is_covered(self, fence: Fence, floor: Floor) -> bool:
        """Return whether the log still holds every acknowledged record that may have no row."""
        through = fence.through
        if through is None or not self._positions.is_behind(through, floor):
            return True
        return await self._reaches(fence.partition, through)

    async def begin(self, fence: Fence, floor: Floor) -> str | None:
        """Return where to put rows back from if no position was known; ``None``: the fence's.

        A database that never had an owner of the partition, nor a standby that followed it, is not
        the one that workers wrote before: it was emptied, is another one, or was restored to a
        moment before this log was used. Then all records of the log are read again.

        Otherwise a standby acknowledged records that others persisted, and noted how far; or a
        previous release kept no position. Then the fence begins there, or at the group's position
        of that time. This happens once for each partition, and no row need be lost.
        """
        log = _log.bind(partition=fence.partition, acknowledged=floor.offset)
        if not fence.is_new or fence.was_noted:
            log.info(
                "No position in PostgreSQL: beginning after the last record that was acknowledged "
                "before this worker",
                after=fence.through,
            )
            return None
        if fence.is_first:
            log.error(
                "PostgreSQL knows nothing of a partition whose records workers have acknowledged: "
                "the database was emptied, or is another one. All records that the log still has "
                "become rows; older ones are lost if no other server or backup has them"
            )
        else:
            log.warning(
                "PostgreSQL knows nothing of a partition whose records workers have acknowledged: "
                "it was restored to a moment before this log was used, or the log was drained "
                "since. All records that the log still has are read again, and those without a "
                "row get it now"
            )
        return await self.before_first(fence)

    async def before_first(self, fence: Fence) -> str:
        """Return the position just before the first record of the log; empty if it has none."""
        return await self._log_barrier.run(
            lambda: self._positions.begin(fence.partition), self._stop
        )

    def warn(self, fence: Fence, floor: Floor) -> None:
        """Log lost rows for which no partition waits, because workers read another log."""
        self._positions.lost()
        _log.error(
            "Rows lost that this log no longer holds: another log or a backup may have them",
            partition=fence.partition,
            through=fence.through,
            acknowledged=floor.offset,
        )

    async def wait_for_operator(
        self, fence: Fence, floor: Floor, position: Callable[[], Awaitable[str | None]]
    ) -> None:
        """Wait until the log holds the records again, or the gap is accepted.

        An accepted gap moves the position behind it. ``position`` returns the current position; an
        error that it raises ends the wait.
        """
        assert fence.through is not None
        waits = self._positions.wait(fence.partition, fence.through, floor)
        _log.error(
            "Rows lost that the log no longer holds: the partition waits for an operator",
            partition=fence.partition,
            through=fence.through,
            acknowledged=floor.offset,
            remedy=waits.error,
        )
        try:
            while not await stopped_within(self._stop, _LOOK_SECONDS):
                fence.through = await position()
                if await self.is_covered(fence, floor):
                    return
            raise Stopping
        finally:
            self._positions.go_on(fence.partition, waits)

    async def restore(
        self,
        fence: Fence,
        after: str,
        floor: Floor,
        *,
        passes_holes: bool = False,
        reason: str = LOST,
    ) -> bool:
        """Persist the records between ``after`` and ``floor``, in the order of the log.

        With ``passes_holes``, it goes on after records that the log no longer holds. ``reason`` is
        logged if there are records.

        Returns:
            Whether those were all: ``False`` if the log lost records meanwhile. Records before the
            lost ones are persisted, and none after them.
        """
        if not self._positions.is_behind(after, floor):
            return True
        log = _log.bind(partition=fence.partition, after=after, through=floor.offset)
        records = restored = 0
        is_whole = True
        while page := await self._page(fence.partition, after, floor):
            # Checked after the page was read: records that were removed before are not in it.
            if not passes_holes and not (is_whole := await self._reaches(fence.partition, after)):
                break
            if not records:  # there may be none, where offsets hold no record
                log.warning(reason)
            rows = await self._persist(page)
            after = page[-1].offset
            records += len(page)
            restored += rows
            self._positions.restored(rows)
        else:
            if not passes_holes and self._positions.is_behind(after, floor):
                is_whole = await self._reaches(fence.partition, after)
        if restored and reason is LOST:
            await self._record(fence, restored, reason)
        if records:
            log.warning("Rows put back from the log", records=records, rows=restored, all=is_whole)
        return is_whole

    async def read_what_was_passed(self, fence: Fence, floor: Floor, *, was_read: bool) -> None:
        """Persist the records after the fence's position past which the group was moved.

        Nobody acknowledged them, so they may have no row. Records that have one change nothing. No
        partition waits for those that the log no longer holds: they are told. So it is as well
        where the log lost the group's position, and began the group at its first record. What left
        a log before it was read (``was_read`` is ``False``) is no loss.
        """
        after, passed = fence.through, Floor(floor.moved_to)
        if after is None or not self._positions.is_behind(after, passed):
            return
        if was_read and not await self._reaches(fence.partition, after):
            self.warn(fence, passed)
        await self.restore(fence, after, passed, passes_holes=True, reason=_MOVED)

    async def _reaches(self, partition: int, after: str) -> bool:
        return await self._log_barrier.run(
            lambda: self._positions.reaches(partition, after), self._stop
        )

    async def _page(self, partition: int, after: str, floor: Floor) -> list[Record]:
        return await self._log_barrier.run(
            lambda: self._positions.read(partition, after, floor, self._at_once), self._stop
        )
