"""A worker without a database: reads after its own positions, and publishes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from transport.contract import WORKER_GROUP, Record, Topic, Transport
from transport.errors import TransportError, TransportUnavailable

__all__ = ["Settler", "settle"]

_PATIENCE = 20.0
_PUBLISH_SECONDS = 0.05
_WAIT_SECONDS = 1000.0  # an append has to end the wait, or a change of the server


async def settle(
    log: Transport,
    count: int,
    *,
    after: Record | None = None,
    partition: int = 0,
    group: str = WORKER_GROUP,
) -> list[Record]:
    """Read the next records of a partition, and publish the position of the last one."""
    records: list[Record] = []
    async with asyncio.timeout(_PATIENCE):
        while len(records) < count:
            last = records[-1] if records else after
            records += await log.read(
                Topic.MESSAGES,
                partition,
                after=last.offset if last else None,
                limit=count - len(records),
                wait=_PATIENCE,
            )
    positions = {partition: records[-1].offset}
    await log.publish_positions(Topic.MESSAGES, positions, group=group)
    return records


class Settler:
    """Reads every partition, and publishes its positions, in spite of outages.

    Args:
        log: An entered transport.
        batch: The most records of a read.
        group: The group that shows the positions.
        topic: What to read.
    """

    def __init__(
        self,
        log: Transport,
        *,
        batch: int = 10,
        group: str = WORKER_GROUP,
        topic: Topic = Topic.MESSAGES,
    ) -> None:
        self.records: list[Record] = []
        self.positions: dict[int, str] = {}
        self._log = log
        self._batch = batch
        self._group = group
        self._topic = topic

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Settler]:
        """Work until the block ends, and publish once more; the next block continues there."""
        partitions = self._log.partitions if self._topic is Topic.MESSAGES else 1
        tasks = [asyncio.create_task(self._publish_often())]
        tasks += [asyncio.create_task(self._read(p)) for p in range(partitions)]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            with suppress(TransportError):
                await self.publish()
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def publish(self) -> None:
        """Publish the positions."""
        positions = dict(self.positions)
        await self._log.publish_positions(self._topic, positions, group=self._group)

    async def _publish_often(self) -> None:
        while True:
            await asyncio.sleep(_PUBLISH_SECONDS)
            with suppress(TransportError):
                await self.publish()

    async def _read(self, partition: int) -> None:
        while True:
            after = self.positions.get(partition)
            try:
                records = await self._log.read(
                    self._topic, partition, after=after, limit=self._batch, wait=_WAIT_SECONDS
                )
            except TransportUnavailable:
                await self._go_back_at_last(partition)
            else:
                self.records += records
                if records:
                    self.positions[partition] = records[-1].offset

    async def _go_back_at_last(self, partition: int) -> None:
        while True:
            await asyncio.sleep(_PUBLISH_SECONDS)
            with suppress(TransportUnavailable):
                return await self._go_back(partition)

    async def _go_back(self, partition: int) -> None:
        """Continue from the published position, if the log lost the record that was read last."""
        log, at = self._log, self.positions.get(partition)
        if at is None or await self._has(partition, at):
            return
        floor = (await log.progress(self._topic, group=self._group))[partition].floor
        if floor is None:
            del self.positions[partition]
        elif log.sort_key(floor) < log.sort_key(at):
            self.positions[partition] = floor

    async def _has(self, partition: int, offset: str) -> bool:
        log = self._log
        before = log.offset_before(offset)
        found = await log.read(self._topic, partition, after=before, limit=1)
        return bool(found) and found[0].offset == offset
