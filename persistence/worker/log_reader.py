"""Read one log in one process: own a share of its partitions, and run a reader on each of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from otel.metrics import Metrics
from persistence.database.outage import Paused, Stopping, stopped_within
from persistence.database.pool import Pool, using
from persistence.errors import PersistenceError
from persistence.metrics import PersistenceMetrics
from persistence.ownership.fences import leave
from persistence.ownership.partition_owner import PartitionOwner
from persistence.worker.log_bounds import LogBounds
from persistence.worker.partition_follower import WaitingPartition
from persistence.worker.partition_position import PartitionPosition
from persistence.worker.partition_reader import PartitionReader
from persistence.worker.position_publisher import PositionPublisher
from persistence.worker.position_watch import PositionWatch
from persistence.worker.worker_context import WorkerContext
from transport.contract import Topic

__all__ = ["LONG_SECONDS", "LogReader"]

LONG_SECONDS = 2.0
"""After this time, a partition is reported to wait for its next record."""

_LEAVE_WITHIN = 0.8
_SURPLUS_SECONDS = 30.0


class LogReader:
    """Owns partitions of ``context.transport``, and runs a reader on each.

    For ``follows``, see ``PartitionReader``; for ``until_forgotten``, ``PartitionOwner``.
    """

    def __init__(
        self,
        context: WorkerContext,
        pool: Pool,
        metrics: Metrics,
        *,
        follows: bool = False,
        until_forgotten: bool = False,
    ) -> None:
        self._context = context
        self._pool = pool
        self._is_member = False
        self._follows = follows
        self._owned = metrics.of(PersistenceMetrics).owned
        self._bounds = LogBounds(context.transport, Topic.MESSAGES, metrics)
        self._publisher = PositionPublisher(context.transport)
        self.readers: dict[int, PartitionReader] = {}
        """The reader of each partition that this process owns."""
        self._owner = PartitionOwner(
            pool,
            context.transport.name,
            range(context.transport.partitions),
            member=context.member,
            database_barrier=context.database_barrier,
            metrics=metrics,
            serve=self._serve,
            until_forgotten=until_forgotten,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Read until ``stop`` is set; then finish the work in hand, and give the partitions back.

        The positions are shown to the log's tools until the end.
        """
        done = asyncio.Event()
        self._is_member = True
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._publisher.run(done))
                watch = PositionWatch(self._context, self._bounds, self._publisher, self.readers)
                tasks.create_task(watch.run(stop))
                tasks.create_task(self._find_surplus(stop))
                await self._owner.run(stop)
                done.set()
        finally:
            self._is_member = False
        await self._leave()

    async def _leave(self) -> None:
        """Let others take the partitions at once, and not after the next heartbeat."""
        with suppress(PersistenceError):
            async with using(self._pool, within=_LEAVE_WITHIN) as connection:
                await leave(connection, self._context.transport.name, self._context.member)

    async def _find_surplus(self, stop: asyncio.Event) -> None:
        """Share partitions, too, that were added to the log beyond the number configured."""
        transport = self._context.transport
        with suppress(Stopping):
            while not stop.is_set():
                surplus = await self._context.log_barrier.run(transport.surplus, stop)
                self._owner.partitions = [*range(transport.partitions), *surplus]
                await stopped_within(stop, _SURPLUS_SECONDS)

    def owned(self) -> dict[int, int] | None:
        """Return the epoch of each partition that this process owns.

        ``None`` while it takes no share of them.
        """
        return self._owner.owned() if self._is_member else None

    def waiting(self, *, longer_than: float = 0.0) -> list[WaitingPartition]:
        """Return the unsettled record that each followed partition waits for.

        ``longer_than`` leaves out those that have waited for fewer seconds.
        """
        readers = [reader for _, reader in sorted(self.readers.items())]
        waits = (reader.follower.waits(longer_than=longer_than) for reader in readers)
        return [wait for wait in waits if wait is not None]

    def paused(self) -> list[Paused]:
        """Return what the readers wait for."""
        context = self._context
        barriers = (context.log_barrier, context.database_barrier, context.contents.barrier)
        waiting = [paused for barrier in barriers if (paused := barrier.paused())]
        return waiting + self._owner.paused()

    async def _serve(self, partition: int, epoch: int, leave: asyncio.Event) -> None:
        context = self._context
        position = PartitionPosition(
            partition,
            epoch,
            context,
            bounds=self._bounds,
            publisher=self._publisher,
            leave=leave,
        )
        owned = self._owned.labels(context.transport.name, str(partition))
        self.readers[partition] = reader = PartitionReader(
            position, context, leave, follows=self._follows
        )
        owned.set(1)
        try:
            await reader.run()
        finally:
            del self.readers[partition]
            owned.set(0)
