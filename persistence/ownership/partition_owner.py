"""Take this process's share of a log's partitions, and serve each one until it has to leave it.

Once a second the owner compares its partitions with its fair share among the live processes. It
stops serving what is beyond its share, and gives it back once the work in hand is done. It takes
partitions without an owner, and those of a process that is no longer alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress

import structlog

from otel.metrics import Metrics
from persistence.database.outage import OutageBarrier, Paused, Stopping
from persistence.database.pool import Connection, Pool, using
from persistence.errors import FenceLost, PersistenceError
from persistence.ownership.fences import (
    Ownership,
    PartitionFence,
    forget,
    ownership,
    release,
    take,
)
from transport.assignment import fair_shares

__all__ = ["PartitionOwner", "Serve"]

_log = structlog.get_logger(__name__)

_COMPARE_SECONDS = 1.0
_RELEASE_WITHIN = 0.8

Serve = Callable[[int, int, asyncio.Event], Awaitable[None]]
"""Works on a partition, owned with an epoch, until the event is set. It is called again if it
raises: ``FenceLost`` if another process is the owner by now."""


class PartitionOwner:
    """Owns partitions of the log ``transport`` for the process ``member``.

    Args:
        pool: The connections to PostgreSQL.
        transport: The log's name.
        partitions: The partitions to share with other processes.
        member: This process's name, as in its heartbeat.
        database_barrier: Waits out outages of PostgreSQL.
        metrics: Has the gauge of waits.
        serve: Works on one partition.
        until_forgotten: Own nothing any more once PostgreSQL has forgotten all owners of the log,
            which another process does when the log is drained or retired.
    """

    def __init__(
        self,
        pool: Pool,
        transport: str,
        partitions: Sequence[int],
        *,
        member: str,
        database_barrier: OutageBarrier,
        metrics: Metrics,
        serve: Serve,
        until_forgotten: bool = False,
    ) -> None:
        self._pool = pool
        self._transport = transport
        self.partitions = list(partitions)
        """The partitions to share. More may be found later."""
        self._member = member
        self._database_barrier = database_barrier
        self._metrics = metrics
        self._serve = serve
        self._until_forgotten = until_forgotten
        self._was_known = False
        self._is_forgotten = False
        self._served: dict[int, _Served] = {}
        self._unexpected: dict[str, OutageBarrier] = {}
        self._changed = asyncio.Event()

    def owned(self) -> dict[int, int]:
        """Return the epoch of each partition that is served now."""
        return {p: served.epoch for p, served in sorted(self._served.items()) if not served.is_done}

    def paused(self) -> list[Paused]:
        """Return the partitions that wait after an unexpected error."""
        return [paused for barrier in self._unexpected.values() if (paused := barrier.paused())]

    async def run(self, stop: asyncio.Event) -> None:
        """Own partitions until ``stop`` is set; then finish the work in hand, and give all back."""
        watching = asyncio.create_task(self._wake_on(stop))
        try:
            while not stop.is_set():
                self._changed.clear()
                await self._keep_share(stop)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_COMPARE_SECONDS):
                        await self._changed.wait()
            await self._end()
        finally:
            watching.cancel()
            for served in self._served.values():
                served.task.cancel()
            await asyncio.gather(watching, *self._tasks(), return_exceptions=True)

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._changed.set()

    async def _keep_share(self, stop: asyncio.Event) -> None:
        with suppress(Stopping):
            try:
                await self._database_barrier.run(lambda: self._compare(stop), stop)
            except Stopping:
                raise
            except Exception as error:  # noqa: BLE001 - the work on its partitions continues
                await self._pause_on(f"partitions of {self._transport}", error, stop)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [served.task for served in self._served.values()]

    async def _compare(self, stop: asyncio.Event) -> None:
        """Compare this process's partitions with its share, and take or give back what differs."""
        async with using(self._pool) as connection:
            await self._give_back(connection)
            found = await ownership(connection, self._transport, self.partitions)
            share = [] if self._find_forgotten(found) else self._share(found)
            for partition, served in self._served.items():
                if found.fences.get(partition) != PartitionFence(served.epoch, self._member):
                    served.is_lost = True
                if served.is_lost or partition not in share:
                    served.leave.set()
            await self._give_back_unserved(connection, found, share)
            for partition in share:
                seen = found.fences.get(partition)
                if partition in self._served or not self._may_take(seen, found.readers):
                    continue
                if stop.is_set():
                    return
                epoch = await take(connection, self._transport, partition, self._member, seen=seen)
                if epoch is not None:
                    self._begin(partition, epoch)

    def _find_forgotten(self, found: Ownership) -> bool:
        """Return whether the owners that this process knew were forgotten."""
        if self._until_forgotten:
            gone = any(partition not in found.fences for partition in self._served)
            self._is_forgotten |= gone or (self._was_known and not found.fences)
            self._was_known |= bool(found.fences)
        return self._is_forgotten

    def _share(self, found: Ownership) -> list[int]:
        """Return the partitions that this process should own."""
        members = sorted({*found.readers, self._member})
        owners = [
            fence.owner if (fence := found.fences.get(partition)) else None
            for partition in self.partitions
        ]
        wanted = zip(self.partitions, fair_shares(members, owners), strict=True)
        return [partition for partition, member in wanted if member == self._member]

    def _may_take(self, seen: PartitionFence | None, readers: Sequence[str]) -> bool:
        """Return whether no other process works on a partition.

        This process may have a partition that it does not serve: see ``_give_back_unserved``.
        """
        return seen is None or seen.owner == self._member or seen.owner not in readers

    def _begin(self, partition: int, epoch: int) -> None:
        leave = asyncio.Event()
        task = asyncio.create_task(self._work(partition, epoch, leave))
        task.add_done_callback(lambda _: self._changed.set())
        self._served[partition] = _Served(epoch, leave, task)

    async def _work(self, partition: int, epoch: int, leave: asyncio.Event) -> None:
        """Serve a partition; after an unexpected error, pause it alone and begin again."""
        while not leave.is_set():
            try:
                await self._serve(partition, epoch, leave)
            except Stopping:
                return
            except FenceLost as error:
                _log.warning(
                    "Partition left: another process may be its owner by now",
                    transport=self._transport,
                    partition=partition,
                    epoch=epoch,
                    error=str(error),
                )
                return
            except Exception as error:  # noqa: BLE001 - logged, shown as paused, tried again
                with suppress(Stopping):
                    await self._pause_on(
                        f"partition {partition} of {self._transport}", error, leave
                    )

    async def _pause_on(self, where: str, error: Exception, stop: asyncio.Event) -> None:
        _log.exception("Unhandled exception; will retry", where=where)
        if where not in self._unexpected:
            self._unexpected[where] = OutageBarrier(
                where, _works, self._metrics, label="unexpected"
            )
        await self._unexpected[where].hold(error, stop)

    async def _give_back(self, connection: Connection) -> None:
        """Give partitions back whose work has ended."""
        ended = [(p, served) for p, served in self._served.items() if served.is_done]
        epochs = {partition: served.epoch for partition, served in ended if not served.is_lost}
        await self._end_epochs(connection, epochs)
        for partition, _ in ended:
            del self._served[partition]

    async def _give_back_unserved(
        self, connection: Connection, found: Ownership, share: Collection[int]
    ) -> None:
        """Give back what PostgreSQL has in this process's name, and is another's share.

        The answer to an attempt to take it was lost, or PostgreSQL went back to before this process
        gave it back. No other process takes it from one that is alive.
        """
        unserved = {
            partition: fence.epoch
            for partition, fence in found.fences.items()
            if fence.owner == self._member and partition not in self._served
        }
        await self._end_epochs(connection, {p: e for p, e in unserved.items() if p not in share})

    async def _end_epochs(self, connection: Connection, epochs: Mapping[int, int]) -> None:
        if epochs:
            # This process may have taken some while the others were forgotten.
            end = forget if self._is_forgotten else release
            await end(connection, self._transport, epochs)

    async def _end(self) -> None:
        for served in self._served.values():
            served.leave.set()
        if self._served:
            await asyncio.wait(self._tasks())
        with suppress(PersistenceError):  # others take them once this process's heartbeat is old
            async with using(self._pool, within=_RELEASE_WITHIN) as connection:
                await self._give_back(connection)


class _Served:
    """A partition that is served: its epoch, the event that ends the work, and the work."""

    __slots__ = ("epoch", "is_lost", "leave", "task")

    def __init__(self, epoch: int, leave: asyncio.Event, task: asyncio.Task[None]) -> None:
        self.epoch = epoch
        self.leave = leave
        self.task = task
        self.is_lost = False
        """Whether another process owns the partition by now."""

    @property
    def is_done(self) -> bool:
        """Whether the work has ended; the partition is about to be given back."""
        return self.task.done()


async def _works() -> None:
    """Probe nothing: the cause is unknown, so only another try can show that it is gone."""
