"""The position of one partition in PostgreSQL, which is also its fence.

The partition's owner takes it, puts back rows that PostgreSQL lost, and then moves it with each
write. While idle, the owner checks now and then that the position is where it left it: PostgreSQL
may be another server by now.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from persistence.errors import FenceLost
from persistence.store.batch import Fence
from persistence.worker.recovery.catch_up import ANOTHER_LOG, LOST, NOTED, CatchUp, Persist
from persistence.worker.recovery.positions import Floor
from persistence.worker.worker_context import WorkerContext
from transport.contract import Claim

__all__ = ["PartitionPosition"]

_log = structlog.get_logger(__name__)

# A fence that is lost again so soon after it was retaken belongs to another owner.
_LOST_AGAIN_SECONDS = 1.0


class PartitionPosition:
    """The position of a claim's partition. Waits out outages of the log and of the database.

    ``fence`` stays the same object, so code that writes with it has the epoch and the position that
    were taken last.

    Args:
        claim: The partition's claim.
        context: The dependencies of the workers of its log.
        restore: Persists records that are acknowledged already.
        stop: Ends every wait.
        keeps: Whether PostgreSQL keeps the position: only if the owner acknowledges nothing but
            records that it wrote.
    """

    def __init__(
        self,
        claim: Claim,
        context: WorkerContext,
        restore: Persist,
        stop: asyncio.Event,
        *,
        keeps: bool,
    ) -> None:
        self.fence = Fence(context.transport.name, claim.partition, claim.epoch, keeps=keeps)
        self._claim = claim
        self._context = context
        self._stop = stop
        self._catch_up = CatchUp(
            context.positions,
            context.log_barrier,
            restore,
            self._record_rows,
            at_once=context.batch_size,
            stop=stop,
        )
        self._begun: str | None = None
        self._restarted = False
        self._taken_again = float("-inf")
        self._seen_in = -1
        self._looked: tuple[int, str | None] | None = None
        self._elsewhere: tuple[str, str | None] | None = None

    async def open(self) -> None:
        """Take the fence, and put back rows that PostgreSQL lost.

        Raises:
            PartitionLost, FenceLost: another owner has the partition.
            Stopping: stopped while it waited for a dependency.
        """
        outages = self._context.database_barrier.outages
        floor = await self._floor()
        await self._open(self._begin(floor), floor.log, await self._restart(floor))
        await self._catch_up_rows(floor)
        self.seen(outages)

    async def take_again(self, lost: FenceLost) -> None:
        """Retake a lost fence and go on from PostgreSQL's position, if no newer owner has it.

        PostgreSQL may be another server than before, with other rows. Or a statement was committed
        and its answer was lost. The log delivers all unacknowledged records again.

        Raises:
            FenceLost: the fence was lost soon after it was retaken, or another owner has it.
        """
        if time.monotonic() - self._taken_again < _LOST_AGAIN_SECONDS:
            raise lost
        _log.warning(
            "The position in PostgreSQL is not the one that this worker left; continuing from "
            "PostgreSQL's",
            partition=self._claim.partition,
            error=str(lost),
        )
        outages = self._context.database_barrier.outages
        left, floor = self.fence.through, await self._floor()
        await self._take(self._begin(floor), floor.log, await self._restart(floor))
        await self._catch_up_rows(floor, left)
        self.seen(outages)
        await self._claim.nack()
        self._taken_again = time.monotonic()

    async def _record_rows(self, fence: Fence, rows: int, why: str) -> None:
        context = self._context
        await context.database_barrier.run(
            lambda: context.writer.record_put_back(fence, rows, who=context.member, why=why),
            self._stop,
        )

    def seen(self, outages: int) -> None:
        """Record that the position was as this owner left it after ``outages`` outages."""
        self._seen_in = outages

    def may_have_lost_rows(self) -> bool:
        """Return whether the position was not found as left since PostgreSQL's last outage.

        Until it is found so, the log keeps acknowledged records: lost rows may have to be put back
        from it.
        """
        return self._seen_in != self._context.database_barrier.outages

    async def move(self, through: str) -> None:
        """Move the position to ``through``, unless a statement with rows did it.

        No statement has the last records of a batch if they are dead letters, or if their content
        is gone and their rows were archived or erased.
        """
        context, fence = self._context, self.fence
        if fence.keeps and fence.through != through:
            await context.database_barrier.run(
                lambda: context.writer.move(fence, through), self._stop
            )

    async def look(self) -> None:
        """Check that the position is still where this owner left it; called while it is idle.

        Another position counts only when it is seen a second time: a statement may be under way.

        Raises:
            FenceLost: the position is elsewhere.
        """
        context, fence = self._context, self.fence
        left, outages = fence.through, context.database_barrier.outages
        if left is None or self._stop.is_set():
            self.seen(outages)
            return
        found = await context.database_barrier.run(
            lambda: context.writer.position(fence.transport, fence.partition), self._stop
        )
        elsewhere = None if found == left else (left, found)
        if elsewhere and elsewhere == self._elsewhere:
            raise FenceLost(f"the position in PostgreSQL is {found}, and was left at {left}")
        self._elsewhere = elsewhere
        # A write since the last look proves the same: it moves only a position that is where it was
        # left.
        before = self._looked or (-1, None)
        has_moved = before[0] == outages and before[1] != left
        if found == left or has_moved:
            self.seen(outages)
        self._looked = outages, left

    async def catch_up_from(self, through: str, log: str | None = None) -> None:
        """Put back rows that PostgreSQL lost after ``through``, the position that a worker left.

        With ``log``, ``through`` is what a standby noted of the log with this identity.

        The position moves with the rows, so an interrupted catch-up goes on from there. Raises as
        ``open`` does.
        """
        known = Fence(self.fence.transport, self.fence.partition, 0, through)
        floor = await self._catch_up.floor(known)
        if not await self._catch_up.is_covered(known, floor):
            self._catch_up.warn(known, floor)
        if self._context.positions.is_behind(through, floor):
            await self._open(through, log)
            await self._pass_lost_numbers()
            after = self.fence.through
            assert after is not None  # it was known, or begins at ``through``
            await self._catch_up.restore(
                self.fence, after, floor, passes_holes=True, reason=self._reason()
            )

    async def _floor(self) -> Floor:
        """Return the group's position. No other owner moves it while the claim is held."""
        if not self.fence.keeps:
            return Floor(None)
        return await self._catch_up.floor(self.fence)

    def _begin(self, floor: Floor) -> str | None:
        """Return the position to take where PostgreSQL knows none.

        That is where this owner began. A PostgreSQL that lost it lost the rows since then too, and
        the group has moved on meanwhile.
        """
        if self._begun is not None:
            return self._begun
        return floor.moved_to or floor.offset

    async def _restart(self, floor: Floor) -> str | None:
        """Return where to begin if PostgreSQL's position is in another log, else ``None``.

        The address led to another cluster for a while, or the log was made anew. Offsets of two
        logs can't be compared: rows that are there would seem lost, or the reverse.
        """
        self._restarted = False
        if floor.log is None:
            return None
        context, fence = self._context, self.fence
        held = await context.database_barrier.run(
            lambda: context.writer.log_of(fence.transport, fence.partition), self._stop
        )
        if held in (None, floor.log):
            return None
        self._restarted = True
        return await self._catch_up.before_first(fence)

    async def _open(
        self, begin: str | None, log: str | None = None, restart: str | None = None
    ) -> None:
        try:
            await self._take(begin, log, restart)
        except FenceLost as error:
            if error.held is None:
                raise
            await self._outbid(error.held)
            await self._take(begin, log, restart)

    async def _take(
        self, begin: str | None = None, log: str | None = None, restart: str | None = None
    ) -> None:
        context, claim, fence = self._context, self._claim, self.fence
        taken = await context.database_barrier.run(
            lambda: context.writer.take(
                fence.transport,
                fence.partition,
                claim.epoch,
                context.member,
                keeps=fence.keeps,
                begin=begin,
                log=log,
                restart=restart,
            ),
            self._stop,
        )
        fence.epoch, fence.is_first = taken.epoch, taken.is_first
        fence.through, fence.place = taken.through, taken.place
        fence.was_unknown, fence.was_noted = taken.was_unknown, taken.was_noted
        fence.is_new = taken.is_new
        if self._begun is None:
            self._begun = taken.through

    async def _outbid(self, held: int) -> None:
        """Raise the claim's epoch in the log above the epoch that holds the fence.

        If a newer owner has the partition, the log refuses. Otherwise the log lost its epochs, and
        seeded new ones from a clock that is behind the earlier one. Then this claim is the owner,
        and the process that holds the fence is not. Without this call, the log's epochs could stay
        below for hours.
        """
        claim, below = self._claim, self._claim.epoch
        await self._context.log_barrier.run(lambda: claim.raise_epoch(held), self._stop)
        _log.warning(
            "The epoch in PostgreSQL was ahead of the log's: raised the log's above it. The log "
            "lost its data, or its server's clock was set back; compare the servers' clocks",
            transport=self._context.transport.name,
            partition=claim.partition,
            fence=held,
            epoch_before=below,
            epoch=claim.epoch,
        )

    async def _catch_up_rows(self, floor: Floor, left: str | None = None) -> None:
        """Put back rows that PostgreSQL lost, and move the position to ``floor``, the group's.

        ``left`` is the position that this owner left. It may be beyond the group's: the last rows
        were not acknowledged yet, and readers may have seen them.
        """
        fence, positions = self.fence, self._context.positions
        if not fence.keeps:
            return
        if fence.was_unknown and floor.offset:
            begin = await self._catch_up.begin(fence, floor)
            if begin is not None:
                await self.move(begin)
        through = fence.through
        if through is not None and any(
            positions.is_behind(through, written) for written in (floor, Floor(left))
        ):
            await self._pass_lost_numbers()
        if not fence.was_unknown:
            await self._read_what_was_passed(floor)
        while True:
            after = fence.through
            # Records that left a log before it was read are no loss of PostgreSQL's.
            if not self._restarted and not await self._catch_up.is_covered(fence, floor):
                await self._tell_uncovered(floor)
                after = after if fence.through is None else fence.through
            if after is None or await self._catch_up.restore(
                fence,
                after,
                floor,
                passes_holes=self._restarted or fence.was_noted or fence.through is None,
                reason=self._reason(),
            ):
                break
        if floor.offset is not None and (
            fence.through is None or positions.is_behind(fence.through, floor)
        ):
            await self.move(floor.offset)

    async def _tell_uncovered(self, floor: Floor) -> None:
        if self.fence.was_noted:  # perhaps all have rows: the standby could not note them in time
            self._catch_up.warn(self.fence, floor)
        else:
            await self._catch_up.wait_for_operator(self.fence, floor, self._position_now)

    def _reason(self) -> str:
        if self._restarted:
            return ANOTHER_LOG
        return NOTED if self.fence.was_noted else LOST

    async def _read_what_was_passed(self, floor: Floor) -> None:
        fence, passed = self.fence, floor.moved_to
        await self._catch_up.read_what_was_passed(fence, floor, was_read=not self._restarted)
        if passed is None or fence.through is None:
            return
        if self._context.positions.is_behind(fence.through, Floor(passed)):
            await self.move(passed)  # so that what the log no longer holds is told once

    async def _pass_lost_numbers(self) -> None:
        """Give the next rows numbers beyond those of the rows that PostgreSQL lost."""
        context = self._context
        await context.database_barrier.run(context.writer.pass_lost_numbers, self._stop)

    async def _position_now(self) -> str | None:
        await self._take()
        return self.fence.through
