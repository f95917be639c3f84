"""Bring a partition's rows to where its group is, before anything new is written.

::

    log          … r7 r8 r9 │ r10 r11 r12 │ r13 …
                  a row each │  no row     │ not acknowledged
             PostgreSQL's position     the group's

So a failover to a standby that was behind, or a restore from a backup, costs no message and no
order: what is new stands behind what was put back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from persistence.database.outage import OutageBarrier, Stopping, stopped_within
from persistence.store.batch import Fence
from persistence.worker.recovery.positions import Floor, Positions
from transport.contract import Record

__all__ = ["CatchUp"]

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0

Persist = Callable[[Sequence[Record]], Awaitable[int]]
"""Makes a row or a dead letter of every record; returns how many rows are new."""


class CatchUp:
    """Catches one partition up.

    Args:
        positions: of the partition's log.
        log: the barrier in front of the log.
        persist: see ``Persist``.
        at_once: how many records to read at once.
        stop: ends every wait.
    """

    def __init__(
        self,
        positions: Positions,
        log: OutageBarrier,
        persist: Persist,
        *,
        at_once: int,
        stop: asyncio.Event,
    ) -> None:
        self._positions = positions
        self._log = log
        self._persist = persist
        self._at_once = at_once
        self._stop = stop

    async def floor(self, fence: Fence) -> Floor:
        """Return how far the group is in the fence's partition."""
        return await self._log.through(lambda: self._positions.floor(fence.partition), self._stop)

    async def is_covered(self, fence: Fence, floor: Floor) -> bool:
        """Return whether the log still holds whatever is acknowledged and may have no row."""
        through = fence.through
        if through is None or not self._positions.is_behind(through, floor):
            return True
        return await self._reaches(fence.partition, through)

    async def begin(self, fence: Fence, floor: Floor) -> str | None:
        """Return the position to put rows back from, where none is known; ``None``: the group's.

        A database that never had an owner of a partition is not the one that the workers wrote
        before: it was emptied, or is another. All that the log holds is to become rows then. In
        other cases the release before kept no position, or a standby acknowledged what others
        persisted: each partition comes to that once, and no row need be gone.
        """
        log = _log.bind(partition=fence.partition, acknowledged=floor.offset)
        if not fence.is_first:
            log.info("No position known in PostgreSQL: it begins at what is acknowledged")
            return None
        log.error(
            "PostgreSQL knows nothing of a partition of which workers have acknowledged records: "
            "the database was emptied, or is another. All that the log holds becomes rows; what it "
            "no longer holds is lost if no other server or backup has it"
        )
        return await self._log.through(lambda: self._positions.begin(fence.partition), self._stop)

    def warn(self, fence: Fence, floor: Floor) -> None:
        """Tell of rows that are lost where nothing waits for them: another log is read."""
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
        """Wait until the log is covered, or the gap accepted: the position is behind it then.

        ``position`` tells what it is now; it may raise what ends the wait.
        """
        assert fence.through is not None
        why = self._positions.wait(fence.partition, fence.through, floor)
        _log.error(
            "Rows lost that the log no longer holds: the partition waits for an operator",
            partition=fence.partition,
            through=fence.through,
            acknowledged=floor.offset,
            remedy=why,
        )
        try:
            while not await stopped_within(self._stop, _LOOK_SECONDS):
                fence.through = await position()
                if await self.is_covered(fence, floor):
                    return
            raise Stopping
        finally:
            self._positions.go_on(fence.partition)

    async def restore(
        self, fence: Fence, after: str, floor: Floor, *, passes_holes: bool = False
    ) -> bool:
        """Persist what the log holds between ``after`` and ``floor``, in its order.

        ``passes_holes``: goes on behind records that the log no longer holds.

        Returns:
            Whether that is all: ``False`` where the log lost records while this went on. What stood
            before them is persisted, and nothing behind them.
        """
        if not self._positions.is_behind(after, floor):
            return True
        log = _log.bind(partition=fence.partition, after=after, through=floor.offset)
        records = restored = 0
        is_whole = True
        while page := await self._page(fence.partition, after, floor):
            # Asked after the page was read: what was removed before that is not in it.
            if not passes_holes and not (is_whole := await self._reaches(fence.partition, after)):
                break
            if not records:  # there may be none, where offsets hold no record
                log.warning(
                    "PostgreSQL is behind what was acknowledged: a failover or a restore took rows "
                    "along; putting them back from the log"
                )
            rows = await self._persist(page)
            after = page[-1].offset
            records += len(page)
            restored += rows
            self._positions.restored(rows)
        else:
            if not passes_holes and self._positions.is_behind(after, floor):
                is_whole = await self._reaches(fence.partition, after)
        if records:
            log.warning("Rows put back from the log", records=records, rows=restored, all=is_whole)
        return is_whole

    async def _reaches(self, partition: int, after: str) -> bool:
        return await self._log.through(
            lambda: self._positions.reaches(partition, after), self._stop
        )

    async def _page(self, partition: int, after: str, floor: Floor) -> list[Record]:
        return await self._log.through(
            lambda: self._positions.read(partition, after, floor, self._at_once), self._stop
        )
