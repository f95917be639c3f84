"""Persist the records of one partition, from the position in PostgreSQL on.

Where the chain does not allow all of them to become rows, the partition is followed
(``persistence.worker.partition_follower``). Otherwise::

    read ──► decode ──► one statement ──► dead letters, if any ──► position
      │          │       └── together with batches of other partitions
      │          └── content from the payload store, where a record has only its key
      └── while a full batch is written, the next one is read

The position is committed with the rows, and passes a record only once it is a row or a durable dead
letter (promise 1). Its outcome never depends on the other records of its batch (promise 6).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
import structlog

from otel.tracing.deliveries import UNTRACED, Delivery
from persistence.errors import FenceLost
from persistence.worker.batch.batch_size import AdaptiveBatchSize
from persistence.worker.interruption import Interruption
from persistence.worker.partition_follower import PartitionFollower
from persistence.worker.partition_position import PartitionPosition
from persistence.worker.record_writer import RecordWriter
from persistence.worker.worker_context import WorkerContext
from transport.contract import WORKER_GROUP, Record, Topic
from transport.errors import TransportError

__all__ = ["PartitionReader"]

_log = structlog.get_logger(__name__)


class _Batch(msgspec.Struct, frozen=True):
    records: Sequence[Record]
    read_at: float
    is_full: bool
    """Whether there are as many records as were asked for: more are probably waiting."""
    trace: Delivery = UNTRACED


_EMPTY = _Batch((), 0.0, is_full=False)


class PartitionReader:
    """Works on one partition. Waits out outages of the log and of the database.

    Args:
        position: The partition's position.
        context: The dependencies of its log.
        leave: Ends the work, once the batch in hand is done.
        follows: Follow the partition in any case: other processes read another log first.
    """

    def __init__(
        self,
        position: PartitionPosition,
        context: WorkerContext,
        leave: asyncio.Event,
        *,
        follows: bool = False,
    ) -> None:
        self.position = position
        self._context = context
        self._leave = leave
        self._writer = RecordWriter(context, position, leave)
        self._interruption = Interruption(leave)
        self._batch_size = AdaptiveBatchSize(context.batch_size)
        self._follows = follows
        self._is_started = False
        self._reads_after: str | None = None
        self.follower = PartitionFollower(
            position, context, writer=self._writer, interruption=self._interruption, leave=leave
        )

    @property
    def waits_at(self) -> str | None:
        """The position, while the reader waits for records; ``None`` while it works."""
        return self._reads_after if self._reads_after is not None else self.follower.waits_at

    async def run(self) -> None:
        """Persist batches until ``leave`` is set; then finish the batch in hand.

        Raises:
            FenceLost: another process is the owner.
            Stopping: told to leave while it waited for a dependency.
            Unexpected: an error without a rule. Run a new reader.
        """
        async with self._interruption:
            while not self._leave.is_set():
                try:
                    await self._open()
                    if self.position.is_unbounded and not self._follows:
                        await self._work()
                    else:
                        await self.follower.run()
                except FenceLost as error:
                    await self.position.reconsider(error)

    async def _open(self) -> None:
        await self.position.open()
        if not self._is_started:
            self._is_started = True
            partition = self.position.partition
            _log.info(
                f"Worker started for partition {partition}",
                partition=partition,
                transport=self._context.transport.name,
                epoch=self.position.fence.epoch,
            )

    async def _work(self) -> None:
        batch = await self._read()
        while batch.records:
            batch = await self._persist(batch) or await self._read()

    async def _read(self) -> _Batch:
        """Wait for records; return none when leaving, or when the position has to be opened."""
        context, after = self._context, self.position.through
        while not self._leave.is_set():
            self._reads_after = after
            try:
                # Records that arrive just as the stop does are read by the next owner.
                batch = await context.log_barrier.run(
                    lambda: self._interruption.unless_stopped(
                        lambda: self._next(after, wait=context.poll)
                    ),
                    self._leave,
                )
            finally:
                self._reads_after = None
            if self.position.is_elsewhere:
                break
            if batch and batch.records:
                return batch
        return _EMPTY

    async def _next(self, after: str, *, wait: float) -> _Batch:
        asked, began = self._batch_size.size, time.time_ns()
        context = self._context
        records = await context.transport.read(
            Topic.MESSAGES, self.position.partition, after=after or None, limit=asked, wait=wait
        )
        if not records:
            return _EMPTY
        name = context.transport.name
        trace = context.deliveries.begin(name, WORKER_GROUP, records, began)
        return _Batch(records, time.perf_counter(), len(records) >= asked, trace)

    async def _persist(self, batch: _Batch) -> _Batch | None:
        """Write a batch, dead letters too; return the next one if it was read ahead."""
        began = time.perf_counter()
        with batch.trace as trace:
            ahead = await self._persist_and_read_ahead(batch)
        done = time.perf_counter()
        self._context.metrics.acknowledged(
            len(batch.records), done - batch.read_at, trace_id=trace.trace_id
        )
        self._batch_size.took(len(batch.records), done - began)
        return ahead

    async def _persist_and_read_ahead(self, batch: _Batch) -> _Batch | None:
        if not batch.is_full or self._leave.is_set():
            await self._writer.persist(batch.records, batch.trace)
            return None
        writing = asyncio.create_task(self._writer.persist(batch.records, batch.trace))
        try:
            ahead = await self._read_ahead(batch.records[-1].offset)
            await writing
            return ahead
        finally:
            if not writing.done():
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    async def _read_ahead(self, after: str) -> _Batch | None:
        try:
            batch = await self._next(after, wait=0.0)
        except TransportError:
            return None  # the error comes again, and is handled, at the next read
        return batch if batch.records else None
