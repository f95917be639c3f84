"""One claim of the messages log: read, decode, write, dead-letter, acknowledge; in that order.

::

    next ──► decode ──► one statement ──► dead letters, if any ──► ack
      │          │       └── with what other partitions have ready
      │          └── content from the payload store, where a record has only its key
      └── while a full batch is written, the next one is read

Nothing is acknowledged before it is a committed row or a durable dead letter (promise 1), and what
becomes of a record never depends on what else was in its batch (promise 6).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

import msgspec
import structlog

from otel.tracing.deliveries import UNTRACED, Deliveries, Delivery
from persistence.database.outage import OutageBarrier
from persistence.errors import (
    FenceLost,
    Outage,
    PersistenceError,
    Rejected,
    TooSlow,
    Unexpected,
)
from persistence.store.batch import Fence, PositionedEvent, Written
from persistence.store.group_writer import STATEMENT_BYTES, GroupWriter
from persistence.store.writer import Writer
from persistence.worker.attempt_log import AttemptLog, Failed
from persistence.worker.batch_size import AdaptiveBatchSize
from persistence.worker.bisect import BatchOutcome, isolate
from persistence.worker.contents import ContentFailure, Contents, has_payload, held_bytes
from persistence.worker.decoding import decode_all
from persistence.worker.interruption import Interruption
from persistence.worker.worker_metrics import WorkerMetrics
from persistence.worker.writer_feed import WriterFeed
from transport.clock import now
from transport.contract import (
    WORKER_GROUP,
    Claim,
    DeadLetter,
    HandingClaim,
    Reason,
    Record,
    Transport,
)
from transport.envelope import Message
from transport.errors import TransportError

__all__ = ["PartitionWorker", "WorkerContext"]

_log = structlog.get_logger(__name__)


class WorkerContext(msgspec.Struct, frozen=True):
    """Dependencies that all partition workers of one log share.

    ``poll`` is the longest idle wait, in seconds.
    """

    transport: Transport
    writer: Writer
    group_writer: GroupWriter
    log: OutageBarrier
    database: OutageBarrier
    metrics: WorkerMetrics
    member: str
    attempts: int
    batch_size: int
    poll: float
    failures: AttemptLog
    deliveries: Deliveries
    contents: Contents


class _DeliveredBatch(msgspec.Struct, frozen=True):
    records: Sequence[Record]
    delivered: float
    is_full: bool
    """As many as were asked for: more are probably waiting."""
    trace: Delivery = UNTRACED


_NOTHING = _DeliveredBatch((), 0.0, is_full=False)


class PartitionWorker:
    """Works on one claim. Waits out outages of the log and of the database where it meets them."""

    def __init__(self, claim: Claim, context: WorkerContext, stop: asyncio.Event) -> None:
        self._claim = claim
        self._context = context
        self._stop = stop
        self._interruption = Interruption(stop)
        self._batch_size = AdaptiveBatchSize(context.batch_size)
        self._fence: Fence | None = None
        self._failed: list[Failed] = []

    async def run(self) -> None:
        """Persist batches until the stop event is set; then finish what is in hand.

        Raises:
            PartitionLost, FenceLost: another owner goes on from what was acknowledged.
            Stopping: stopped while it waited for a dependency.
            Unexpected: an error there is no rule for. ``nack`` and run again.
        """
        partition = self._claim.partition
        await self.open()
        _log.info(
            f"Worker started for partition {partition}",
            partition=partition,
            transport=self._context.transport.name,
            epoch=self._claim.epoch,
        )
        self._begin_hand_over()
        async with self._interruption:
            batch = await self._read()
            while batch.records:
                batch = await self._persist(batch) or await self._read()

    def _begin_hand_over(self) -> None:
        claim, context, fence = self._claim, self._context, self._fence
        if isinstance(claim, HandingClaim) and fence is not None:
            feed = WriterFeed(
                claim,
                context.transport.name,
                fence,
                group_writer=context.group_writer,
                metrics=context.metrics,
                deliveries=context.deliveries,
            )
            claim.hand_over(feed.take)

    async def open(self) -> None:
        """Take the partition's fence; raises as ``run`` does."""
        try:
            self._fence = await self._take_fence()
        except FenceLost as error:
            if error.held is None:
                raise
            await self._outbid(error.held)
            self._fence = await self._take_fence()

    async def _take_fence(self) -> Fence:
        context = self._context
        name, claim = context.transport.name, self._claim
        return await context.database.through(
            lambda: context.writer.take(name, claim.partition, claim.epoch, context.member),
            self._stop,
        )

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

    async def persist(self, records: Sequence[Record]) -> None:
        """Persist records that the claim delivered, and acknowledge them, once open.

        For the standby, which reads the claim itself; raises as ``run`` does.
        """
        trace = self._trace(records, time.time_ns())
        await self._persist(
            _DeliveredBatch(records, time.perf_counter(), is_full=False, trace=trace)
        )

    async def _read(self) -> _DeliveredBatch:
        """Wait for records; empty only when stopping."""
        while not self._stop.is_set():
            # Records that arrive just as the stop does are redelivered to the next owner.
            batch = await self._context.log.through(
                lambda: self._interruption.unless_stopped(lambda: self._next(self._context.poll)),
                self._stop,
            )
            if batch and batch.records:
                return batch
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
        """Write a batch, dead-letter, acknowledge; return the next if it was read ahead."""
        with batch.trace as trace:
            began = time.perf_counter()
            letters, ahead = await self._write_and_read_ahead(batch)
            log, through = self._context.log, batch.records[-1].offset
            if letters:
                # An append whose answer was lost is made twice, and indexed once.
                sending = time.time_ns()
                await log.through(lambda: self._context.transport.dead_letter(letters), self._stop)
                self._context.metrics.dead_lettered(letters)
                trace.dead_lettered(letters, sending)
            acknowledging = time.time_ns()
            await log.through(lambda: self._claim.ack(through), self._stop)
            trace.acknowledged(acknowledging)
        done = time.perf_counter()
        self._context.metrics.acknowledged(
            len(batch.records), done - batch.delivered, trace_id=trace.trace_id
        )
        self._batch_size.took(len(batch.records), done - began)
        return ahead

    async def _write_and_read_ahead(
        self, batch: _DeliveredBatch
    ) -> tuple[list[DeadLetter], _DeliveredBatch | None]:
        if not batch.is_full or self._stop.is_set():
            return await self._write_all(batch), None
        writing = asyncio.create_task(self._write_all(batch))
        try:
            ahead = await self._read_ahead()
            return await writing, ahead
        finally:
            if not writing.done():
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    async def _read_ahead(self) -> _DeliveredBatch | None:
        try:
            batch = await self._next(0.0)
        except TransportError:
            # Met again, and dealt with, where the batch in hand is acknowledged or the next read.
            return None
        return batch if batch.records else None

    async def _write_all(self, batch: _DeliveredBatch) -> list[DeadLetter]:
        """Make a committed row of every record that can be one; return the letters of the rest."""
        records, trace = batch.records, batch.trace
        positioned, at, undecodable = decode_all(records, self._context.transport.name, trace.begun)
        letters = {
            index: _letter(records[index], Reason.UNDECODABLE, error, 1)
            for index, error in undecodable
        }
        trace.named((p.offset, p.event.message_id, p.event.correlation_id) for p in positioned)
        write = partial(self._write, trace)
        for start, part in _chunks(positioned, self._context.contents.row_bytes):
            chunk, where = part, at[start : start + len(part)]
            if any(map(has_payload, chunk)):
                chunk, where = await self._with_contents(chunk, where, batch, letters)
            outcome = await isolate(chunk, write, attempts=self._context.attempts)
            self._context.metrics.written(chunk, outcome)
            await self._record_failures()
            trace.written("persisted", (chunk[i].offset for i in outcome.persisted))
            trace.written("duplicate", (chunk[i].offset for i in outcome.duplicates))
            letters.update(_letters(outcome, records, where))
        return [letters[index] for index in sorted(letters)]

    async def _with_contents(
        self,
        chunk: Sequence[PositionedEvent],
        where: Sequence[int],
        batch: _DeliveredBatch,
        letters: dict[int, DeadLetter],
    ) -> tuple[list[PositionedEvent], list[int]]:
        """Return the records with their content, and their places; the rest become letters."""
        context, records = self._context, batch.records
        found = await context.contents.of(chunk, self._content_failed, batch.trace, self._stop)
        kept, places = list[PositionedEvent](), list[int]()
        for index, one in zip(where, found, strict=True):
            if isinstance(one, ContentFailure):
                letters[index] = _letter(records[index], one.reason, one.error, context.attempts)
            else:
                kept.append(one)
                places.append(index)
        return kept, places

    def _content_failed(self, positioned: PositionedEvent, error: PersistenceError) -> None:
        self._context.metrics.refused()
        self._note(positioned, error)

    async def _write(self, trace: Delivery, batch: Sequence[PositionedEvent]) -> Written:
        """Write records of this partition; wait out outages of the database."""
        context, fence = self._context, self._fence
        assert fence is not None, "open() comes first"

        def attempted(began: int, error: BaseException | None) -> None:
            trace.attempted((positioned.offset for positioned in batch), began, error)

        while True:
            try:
                return await context.group_writer.write(batch, fence, attempted)
            except Unexpected:
                raise
            except Rejected as rejection:
                if len(batch) == 1:
                    context.metrics.refused()
                    self._note(batch[0], rejection)
                raise
            except Outage as outage:
                await context.database.hold(outage, self._stop)
                if isinstance(outage, TooSlow) and len(batch) > 1:
                    raise  # halved by isolate()

    def _note(self, positioned: PositionedEvent, error: PersistenceError) -> None:
        before = sum(1 for attempt in self._failed if attempt.offset == positioned.offset)
        kind = "message" if isinstance(positioned.event, Message) else "receipt"
        self._failed.append(
            Failed(
                positioned.event.message_id,
                kind,
                positioned.transport,
                positioned.partition,
                positioned.offset,
                before + 1,
                datetime.now(UTC),
                " ".join(str(error).split()),
            )
        )

    async def _record_failures(self) -> None:
        failed, self._failed = self._failed, []
        await self._context.failures.add(failed)


def _letters(
    outcome: BatchOutcome, records: Sequence[Record], at: Sequence[int]
) -> Iterator[tuple[int, DeadLetter]]:
    for index in outcome.conflicts:
        error = Rejected("the key was used before, with another body; the first one stays")
        record = records[at[index]]
        yield at[index], _letter(record, Reason.IDEMPOTENCY_CONFLICT, error, 1)
    for refused in outcome.refused:
        record = records[at[refused.index]]
        yield (
            at[refused.index],
            _letter(record, refused.error.reason, refused.error, refused.attempts),
        )


def _letter(record: Record, reason: Reason, error: Exception, attempts: int) -> DeadLetter:
    return DeadLetter(record, reason, " ".join(str(error).split()), attempts, now())


def _chunks(
    positioned: Sequence[PositionedEvent], row_bytes: int
) -> Iterator[tuple[int, Sequence[PositionedEvent]]]:
    """Split a batch where it would make too large a statement; mostly it is one chunk.

    Content in the payload store counts where it is to be held: up to ``row_bytes``.
    """
    start = size = 0
    for index, event in enumerate(positioned):
        more = event.size + held_bytes(event, row_bytes)
        if size + more > STATEMENT_BYTES and index > start:
            yield start, positioned[start:index]
            start, size = index, 0
        size += more
    if start < len(positioned):
        yield start, positioned[start:]
