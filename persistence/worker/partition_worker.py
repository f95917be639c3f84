"""Work on one claimed partition: read, decode, write, dead-letter, acknowledge, in that order.

::

    next ──► decode ──► one statement ──► dead letters, if any ──► ack
      │          │       └── together with batches of other partitions
      │          └── content from the payload store, where a record has only its key
      └── while a full batch is written, the next one is read

A record is acknowledged only once it is a committed row or a durable dead letter (promise 1). Its
outcome never depends on the other records of its batch (promise 6).
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
from persistence.worker.partition_position import PartitionPosition
from persistence.worker.record_writer import RecordWriter
from persistence.worker.worker_context import WorkerContext
from persistence.worker.writer_feed import WriterFeed
from transport.contract import (
    WORKER_GROUP,
    Claim,
    DeadLetter,
    HandingClaim,
    Record,
    RetainingClaim,
)
from transport.errors import TransportError

__all__ = ["PartitionWorker"]

_log = structlog.get_logger(__name__)


class _DeliveredBatch(msgspec.Struct, frozen=True):
    records: Sequence[Record]
    delivered: float
    is_full: bool
    """Whether there are as many records as were asked for: more are probably waiting."""
    trace: Delivery = UNTRACED


_NOTHING = _DeliveredBatch((), 0.0, is_full=False)


class PartitionWorker:
    """Works on one claim. Waits out outages of the log and of the database.

    ``keeps_position``: whether PostgreSQL keeps the partition's position. It does if this worker
    acknowledges only records that it wrote.
    """

    def __init__(
        self,
        claim: Claim,
        context: WorkerContext,
        stop: asyncio.Event,
        *,
        keeps_position: bool = True,
    ) -> None:
        self._claim = claim
        self._context = context
        self._stop = stop
        self._interruption = Interruption(stop)
        self._batch_size = AdaptiveBatchSize(context.batch_size)
        self._position = PartitionPosition(
            claim, context, self._restore, stop, keeps=keeps_position
        )
        self._writer = RecordWriter(context, self._position.fence, stop)

    async def run(self) -> None:
        """Persist batches until the stop event is set; then finish the batch in hand.

        Raises:
            PartitionLost, FenceLost: another owner goes on from what was acknowledged.
            Stopping: stopped while it waited for a dependency.
            Unexpected: an error without a rule. Call ``nack``, and run again.
        """
        partition = self._claim.partition
        if isinstance(self._claim, RetainingClaim):
            self._claim.retain(self._position.may_have_lost_rows)
        await self.open()
        _log.info(
            f"Worker started for partition {partition}",
            partition=partition,
            transport=self._context.transport.name,
            epoch=self._claim.epoch,
        )
        self._begin_hand_over()
        async with self._interruption:
            while not self._stop.is_set():
                try:
                    await self._work()
                except FenceLost as error:
                    await self._position.take_again(error)

    async def _work(self) -> None:
        batch = await self._read()
        while batch.records:
            batch = await self._persist(batch) or await self._read()

    def _begin_hand_over(self) -> None:
        claim, context = self._claim, self._context
        if isinstance(claim, HandingClaim):
            feed = WriterFeed(
                claim,
                context.transport.name,
                self._position.fence,
                group_writer=context.group_writer,
                metrics=context.metrics,
                deliveries=context.deliveries,
            )
            claim.hand_over(feed.take)

    async def open(self) -> None:
        """Take the partition's fence, and put back lost rows; raises as ``run`` does."""
        await self._position.open()

    async def catch_up_from(self, through: str, log: str | None = None) -> None:
        """Put back rows that PostgreSQL lost after ``through``, the position that a worker left.

        For the standby, when nobody reads the log any more; raises as ``run`` does. With ``log``,
        ``through`` is what a standby noted of the log with this identity.
        """
        await self._position.catch_up_from(through, log)

    async def _restore(self, records: Sequence[Record]) -> int:
        """Persist records that are acknowledged already; return how many rows are new."""
        with self._trace(records, time.time_ns()) as trace:
            letters, rows = await self._writer.write(records, trace)
            await self._send(letters, trace)
        await self._position.move(records[-1].offset)
        return rows

    async def persist(self, records: Sequence[Record]) -> None:
        """Persist records that the claim delivered, and acknowledge them, once open.

        For the standby, which reads the claim itself; raises as ``run`` does.
        """
        trace = self._trace(records, time.time_ns())
        await self._persist(
            _DeliveredBatch(records, time.perf_counter(), is_full=False, trace=trace)
        )

    async def _read(self) -> _DeliveredBatch:
        """Wait for records; return an empty batch only when stopping."""
        while not self._stop.is_set():
            # Records that arrive just as the stop does are redelivered to the next owner.
            batch = await self._context.log_barrier.run(
                lambda: self._interruption.unless_stopped(lambda: self._next(self._context.poll)),
                self._stop,
            )
            if batch and batch.records:
                return batch
            await self._position.look()
        return _NOTHING

    async def _next(self, wait: float) -> _DeliveredBatch:
        asked = self._batch_size.size
        began = time.time_ns()
        records = await self._claim.next(max_records=asked, max_wait=wait)
        trace = self._trace(records, began)
        return _DeliveredBatch(records, time.perf_counter(), len(records) >= asked, trace)

    def _trace(self, records: Sequence[Record], asked: int) -> Delivery:
        if not records:
            return UNTRACED
        name = self._context.transport.name
        return self._context.deliveries.begin(name, WORKER_GROUP, records, asked)

    async def _persist(self, batch: _DeliveredBatch) -> _DeliveredBatch | None:
        """Write, dead-letter and acknowledge a batch; return the next one if it was read ahead."""
        outages = self._context.database_barrier.outages
        with batch.trace as trace:
            began = time.perf_counter()
            letters, ahead = await self._write_and_read_ahead(batch)
            barrier, last = self._context.log_barrier, batch.records[-1].offset
            await self._send(letters, trace)
            await self._position.move(last)
            acknowledging = time.time_ns()
            await barrier.run(lambda: self._claim.ack(last), self._stop)
            trace.acknowledged(acknowledging)
        self._position.seen(outages)
        done = time.perf_counter()
        self._context.metrics.acknowledged(
            len(batch.records), done - batch.delivered, trace_id=trace.trace_id
        )
        self._batch_size.took(len(batch.records), done - began)
        return ahead

    async def _send(self, letters: Sequence[DeadLetter], trace: Delivery) -> None:
        """Append dead letters. If the answer is lost, they are appended twice and indexed once."""
        if not letters:
            return
        sending = time.time_ns()
        await self._context.log_barrier.run(
            lambda: self._context.transport.dead_letter(letters), self._stop
        )
        self._context.metrics.dead_lettered(letters)
        trace.dead_lettered(letters, sending)

    async def _write_and_read_ahead(
        self, batch: _DeliveredBatch
    ) -> tuple[list[DeadLetter], _DeliveredBatch | None]:
        if not batch.is_full or self._stop.is_set():
            letters, _ = await self._writer.write(batch.records, batch.trace)
            return letters, None
        writing = asyncio.create_task(self._writer.write(batch.records, batch.trace))
        try:
            ahead = await self._read_ahead()
            letters, _ = await writing
            return letters, ahead
        finally:
            if not writing.done():
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    async def _read_ahead(self) -> _DeliveredBatch | None:
        try:
            batch = await self._next(0.0)
        except TransportError:
            # The error comes again, and is handled, at the next acknowledgement or read.
            return None
        return batch if batch.records else None
