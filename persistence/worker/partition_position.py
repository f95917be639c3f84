"""The position of one partition, as its owner keeps it: in PostgreSQL, and nowhere else.

The position is committed with the rows, and passes a record only once it is a row or a durable dead
letter (promise 1). A PostgreSQL that went back to an earlier state is no case of its own: the owner
continues from the position that it finds there.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from persistence.chain.links import Chain
from persistence.errors import FenceLost
from persistence.store.batch import Fence
from persistence.store.positions import Opened
from persistence.store.row_losses import record_row_loss
from persistence.worker.log_bounds import LogBounds
from persistence.worker.position_publisher import PositionPublisher
from persistence.worker.worker_context import WorkerContext

__all__ = ["PartitionPosition"]

_log = structlog.get_logger(__name__)


class PartitionPosition:
    """The position of a partition that this process owns. Waits out outages.

    ``fence`` stays the same object: what writes with it has the position that was committed last.

    Args:
        partition: The partition.
        epoch: This process's epoch in ``fences``, as the partition's owner.
        context: The dependencies of its log.
        bounds: Where the log begins and ends.
        publisher: Shows the position to the log's tools.
        leave: Ends every wait.
    """

    def __init__(
        self,
        partition: int,
        epoch: int,
        context: WorkerContext,
        *,
        bounds: LogBounds,
        publisher: PositionPublisher,
        leave: asyncio.Event,
    ) -> None:
        self.fence = Fence(context.transport.name, partition, epoch)
        self._context = context
        self._bounds = bounds
        self._publisher = publisher
        self._leave = leave
        self._is_elsewhere = True
        self._outages = -1
        self._chain = Chain()
        self.log = ""
        """The identity of the log that the position is in."""

    @property
    def partition(self) -> int:
        """The partition's number."""
        return self.fence.partition

    @property
    def through(self) -> str:
        """The offset through which every record is settled; empty before the first one."""
        return self.fence.through

    @property
    def is_elsewhere(self) -> bool:
        """Whether the position has to be opened again before the next batch.

        After an outage, the log may be another one, or one that lost its end. Another chain may
        allow other records to become rows.
        """
        return (
            self._is_elsewhere
            or self._outages != self._context.log_barrier.outages
            or self._chain.version != self._context.chain.now.version
        )

    @property
    def is_unbounded(self) -> bool:
        """Whether records may become rows wherever they are in the log."""
        return self._chain.is_unbounded(self.fence.transport)

    def allows(self, offset: str) -> bool:
        """Return whether the chain allows the record at ``offset`` to become a row."""
        if self.is_unbounded:
            return True
        name, key = self.fence.transport, self._context.transport.sort_key
        bound = self._chain.bound(name, self.log, self.partition, key)
        return bool(bound) and key(offset) <= key(bound)

    def open_again(self) -> None:
        """Note that PostgreSQL or the log is not as this owner left it."""
        self._is_elsewhere = True

    async def reconsider(self, error: FenceLost) -> None:
        """Find out why a statement changed nothing, before the position is opened again.

        Raises:
            FenceLost: another process is the owner.
            Stopping: told to leave while it waited for a dependency.
        """
        if error.held is not None:
            raise error
        context = self._context
        await context.database_barrier.run(context.chain.load, self._leave)
        if context.chain.now.version == self._chain.version:
            _log.warning(
                "The position in PostgreSQL is not the one that was left, or another process owns "
                "the partition: asking PostgreSQL",
                transport=context.transport.name,
                partition=self.partition,
                error=str(error),
            )

    async def open(self) -> None:
        """Continue from the position in PostgreSQL, or from where the log can continue.

        Raises:
            FenceLost: another process is the owner.
            Stopping: told to leave while it waited for a dependency.
        """
        context, fence = self._context, self.fence
        self._is_elsewhere, self._outages = False, context.log_barrier.outages
        await context.database_barrier.run(context.chain.load, self._leave)
        # One chain for all decisions until the next opening: statements compare its version.
        self._chain = context.chain.now
        fence.chain = self._chain.version
        self.log = await context.log_barrier.run(context.transport.identity, self._leave)
        opened = await context.database_barrier.run(
            partial(context.writer.open, fence.transport, fence.partition, fence.epoch, self.log),
            self._leave,
        )
        fence.through, fence.place = opened.through, opened.place
        await self._pass_lost_numbers(opened)
        await self.move(await self._first_after(opened))
        self._publisher.settled(fence.partition, self.through)

    async def _first_after(self, opened: Opened) -> str:
        """Return the offset to read after; record whether rows are gone before it."""
        partition, log_barrier = self.partition, self._context.log_barrier
        if opened.is_new:
            return await log_barrier.run(partial(self._bounds.begin, partition), self._leave)
        held = await log_barrier.run(
            partial(self._bounds.held_after, partition, opened.through), self._leave
        )
        if held.are_rows_lost:
            await self._record_loss(opened.through, are_gone=True)
        return held.offset

    async def _record_loss(self, position: str, *, are_gone: bool) -> None:
        context = self._context

        async def record() -> None:
            async with context.writer.connection() as connection:
                await record_row_loss(
                    connection,
                    who=context.member,
                    log=self.fence.transport,
                    partition=self.partition,
                    are_gone=are_gone,
                    position=position,
                )

        await context.database_barrier.run(record, self._leave)

    async def move(self, through: str) -> None:
        """Move to ``through``, unless a statement with rows did it; raises as ``open`` does."""
        fence, context = self.fence, self._context
        if fence.through != through:
            await context.database_barrier.run(
                lambda: context.writer.move(fence, through), self._leave
            )
        self._publisher.settled(fence.partition, through)

    async def _pass_lost_numbers(self, opened: Opened) -> None:
        """Number new rows beyond those that PostgreSQL lost.

        It lost rows if it has an earlier position than this process left, or than the log shows.
        """
        context, through = self._context, opened.through
        shown = await context.log_barrier.run(
            partial(self._bounds.shown_after, self.partition, through), self._leave
        )
        key, left = context.transport.sort_key, self._publisher.left(self.partition)
        if left and not opened.is_new and (not through or key(left) > key(through)):
            shown = left
        if not shown:
            return
        _log.warning(
            "PostgreSQL lost rows in a failover or a restore, or the log's position was moved by "
            "hand: persisting from PostgreSQL's position",
            transport=context.transport.name,
            partition=self.partition,
            position=through or "the beginning",
            left=shown,
        )
        context.went_back.inc()
        await context.database_barrier.run(context.writer.pass_lost_numbers, self._leave)
        await self._record_loss(through, are_gone=False)
