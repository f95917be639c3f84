"""The position of one partition in PostgreSQL, which is its fence, too.

Its owner takes it, puts back rows that PostgreSQL lost, and then moves it with what it writes. It
looks now and then whether PostgreSQL is still where it left it: it may be another server by now.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from persistence.errors import FenceLost
from persistence.store.batch import Fence
from persistence.worker.recovery.catch_up import CatchUp, Persist
from persistence.worker.worker_context import WorkerContext
from transport.contract import Claim

__all__ = ["PartitionPosition"]

_log = structlog.get_logger(__name__)

# A fence that is lost again so soon after it was taken anew is another's.
_LOST_AGAIN_SECONDS = 1.0


class PartitionPosition:
    """The position of a claim's partition. Waits out outages of the log and of the database.

    ``fence`` is the same one for good, so who writes with it has what was taken last.

    Args:
        claim: The partition's.
        context: Of its log.
        restore: Persists records that are acknowledged already.
        stop: Ends every wait.
        keeps: What is acknowledged is what the owner wrote, so PostgreSQL has a true position.
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
            context.positions, context.log, restore, at_once=context.batch_size, stop=stop
        )
        self._taken_again = float("-inf")
        self._seen_in = -1
        self._looked: tuple[int, str | None] | None = None
        self._elsewhere: tuple[str, str | None] | None = None

    async def open(self) -> None:
        """Take the fence, and put back rows that are gone.

        Raises:
            PartitionLost, FenceLost: another owner has the partition.
            Stopping: stopped while it waited for a dependency.
        """
        outages = self._context.database.outages
        await self._open()
        await self._catch_up_rows()
        self.seen(outages)

    async def take_again(self, lost: FenceLost) -> None:
        """Go on from where PostgreSQL is, if no newer owner has the partition.

        It may be another server than before, with other rows. Or a statement was committed and its
        answer lost. Whatever is not acknowledged is delivered again.

        Raises:
            FenceLost: it was lost soon after it was taken anew, or another owner has it.
        """
        if time.monotonic() - self._taken_again < _LOST_AGAIN_SECONDS:
            raise lost
        _log.warning(
            "PostgreSQL is not where this worker left it: it goes on from where PostgreSQL is",
            partition=self._claim.partition,
            error=str(lost),
        )
        outages = self._context.database.outages
        await self._take()
        await self._catch_up_rows()
        self.seen(outages)
        await self._claim.nack()
        self._taken_again = time.monotonic()

    def seen(self, outages: int) -> None:
        """Note that PostgreSQL was where this left it after so many outages."""
        self._seen_in = outages

    def may_have_lost_rows(self) -> bool:
        """Return whether PostgreSQL was not found where this left it since its last outage.

        Until it is, the log keeps what is acknowledged: the rows may have to be put back from it.
        """
        return self._seen_in != self._context.database.outages

    async def move(self, through: str) -> None:
        """Note that everything through an offset is settled, where no row says so."""
        context, fence = self._context, self.fence
        if fence.keeps:
            await context.database.through(lambda: context.writer.move(fence, through), self._stop)

    async def look(self) -> None:
        """Look whether PostgreSQL is still where this left it, while nothing is to be written.

        Another position is believed when it is seen a second time: a statement may be under way.

        Raises:
            FenceLost: it is not.
        """
        context, fence = self._context, self.fence
        left, outages = fence.through, context.database.outages
        if left is None or self._stop.is_set():
            self.seen(outages)
            return
        found = await context.database.through(
            lambda: context.writer.position(fence.transport, fence.partition), self._stop
        )
        elsewhere = None if found == left else (left, found)
        if elsewhere and elsewhere == self._elsewhere:
            raise FenceLost(f"PostgreSQL is at {found}, and was left at {left}")
        self._elsewhere = elsewhere
        # It also moves on from nowhere else than where it was left.
        before = self._looked or (-1, None)
        has_moved = before[0] == outages and before[1] != left
        if found == left or has_moved:
            self.seen(outages)
        self._looked = outages, left

    async def catch_up_from(self, through: str) -> None:
        """Put back rows that PostgreSQL lost behind a position that a worker left.

        Raises what ``open`` does. The position moves with the rows, so what is interrupted goes on
        from there.
        """
        known = Fence(self.fence.transport, self.fence.partition, 0, through)
        floor = await self._catch_up.floor(known)
        if not await self._catch_up.is_covered(known, floor):
            self._catch_up.warn(known, floor)
        if self._context.positions.is_behind(through, floor):
            await self._open()
            taken = self.fence
            after = through if taken.through is None else taken.through
            await self._catch_up.restore(taken, after, floor, passes_holes=True)

    async def _open(self) -> None:
        try:
            await self._take()
        except FenceLost as error:
            if error.held is None:
                raise
            await self._outbid(error.held)
            await self._take()

    async def _take(self) -> None:
        context, claim, fence = self._context, self._claim, self.fence
        taken = await context.database.through(
            lambda: context.writer.take(
                fence.transport, fence.partition, claim.epoch, context.member
            ),
            self._stop,
        )
        fence.epoch, fence.is_first = taken.epoch, taken.is_first
        fence.through, fence.place = taken.through, taken.place

    async def _outbid(self, held: int) -> None:
        """Have the log raise the claim's epoch above the one that holds the fence.

        Either a newer owner has the partition, and the log refuses. Or the log lost its epochs, and
        seeded new ones from a clock that is behind the one of before: then this is the owner, and
        the process with the fence is not. An epoch of the log's alone could stay below for hours.
        """
        claim, below = self._claim, self._claim.epoch
        await self._context.log.through(lambda: claim.raise_epoch(held), self._stop)
        _log.warning(
            "The epoch in PostgreSQL was ahead of the log's: raised the log's above it. The log "
            "lost its data, or its server's clock was set back; compare the servers' clocks",
            transport=self._context.transport.name,
            partition=claim.partition,
            fence=held,
            epoch_before=below,
            epoch=claim.epoch,
        )

    async def _catch_up_rows(self) -> None:
        """Put back rows that PostgreSQL lost, and note how far the partition is settled."""
        fence = self.fence
        if not fence.keeps:
            return
        floor = await self._catch_up.floor(fence)
        if fence.through is None and floor.offset:
            begin = await self._catch_up.begin(fence, floor)
            if begin is not None:
                await self.move(begin)
        while True:
            after = fence.through
            if not await self._catch_up.is_covered(fence, floor):
                await self._catch_up.wait_for_operator(fence, floor, self._position_now)
                after = after if fence.through is None else fence.through
            if after is None or await self._catch_up.restore(
                fence, after, floor, passes_holes=fence.through is None
            ):
                break
        if floor.offset is not None and (
            fence.through is None or self._context.positions.is_behind(fence.through, floor)
        ):
            await self.move(floor.offset)

    async def _position_now(self) -> str | None:
        await self._take()
        return self.fence.through
