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
from persistence.store.lookup import buried_among
from persistence.store.writer import Writer
from persistence.worker.attempt_log import AttemptLog, Failed
from persistence.worker.batch_size import AdaptiveBatchSize
from persistence.worker.bisect import BatchOutcome, isolate
from persistence.worker.catch_up import CatchUp
from persistence.worker.contents import ContentFailure, Contents, has_payload, held_bytes
from persistence.worker.decoding import decode_all
from persistence.worker.interruption import Interruption
from persistence.worker.positions import Positions
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
    RetainingClaim,
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
    positions: Positions


class _DeliveredBatch(msgspec.Struct, frozen=True):
    records: Sequence[Record]
    delivered: float
    is_full: bool
    """As many as were asked for: more are probably waiting."""
    trace: Delivery = UNTRACED


_NOTHING = _DeliveredBatch((), 0.0, is_full=False)

# A fence that is lost again so soon after it was taken anew is another's.
_LOST_AGAIN_SECONDS = 1.0


class PartitionWorker:
    """Works on one claim. Waits out outages of the log and of the database where it meets them.

    ``keeps_position``: what is acknowledged is what it wrote, so PostgreSQL has a true position.
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
        self._fence: Fence | None = None
        self._keeps_position = keeps_position
        self._taken_again = float("-inf")
        self._seen_in = -1
        self._looked: tuple[int, str | None] | None = None
        self._elsewhere: tuple[str, str | None] | None = None
        self._failed: list[Failed] = []
        self._catch_up = CatchUp(
            context.positions,
            context.log,
            self._restore,
            at_once=context.batch_size,
            stop=stop,
        )

    async def run(self) -> None:
        """Persist batches until the stop event is set; then finish what is in hand.

        Raises:
            PartitionLost, FenceLost: another owner goes on from what was acknowledged.
            Stopping: stopped while it waited for a dependency.
            Unexpected: an error there is no rule for. ``nack`` and run again.
        """
        partition = self._claim.partition
        if isinstance(self._claim, RetainingClaim):
            self._claim.retain(self._may_have_lost_rows)
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
                    await self._begin_again(error)

    async def _work(self) -> None:
        batch = await self._read()
        while batch.records:
            batch = await self._persist(batch) or await self._read()

    async def _begin_again(self, lost: FenceLost) -> None:
        """Go on from where PostgreSQL is, if no newer owner has the partition.

        It may be another server than before, with other rows. Or a statement was committed and its
        answer lost. Whatever is not acknowledged is delivered again.
        """
        if time.monotonic() - self._taken_again < _LOST_AGAIN_SECONDS:
            raise lost
        _log.warning(
            "PostgreSQL is not where this worker left it: it goes on from where PostgreSQL is",
            partition=self._claim.partition,
            error=str(lost),
        )
        outages = self._context.database.outages
        await self._take_fence()
        await self._catch_up_rows()
        self._seen_in = outages
        await self._claim.nack()
        self._taken_again = time.monotonic()

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

    def _may_have_lost_rows(self) -> bool:
        """Return whether PostgreSQL was not found where this left it since its last outage.

        Until it is, the log keeps what is acknowledged: the rows may have to be put back from it.
        """
        return self._seen_in != self._context.database.outages

    async def open(self) -> None:
        """Take the partition's fence, and put back rows that are gone; raises as ``run`` does."""
        outages = self._context.database.outages
        await self._open_fence()
        await self._catch_up_rows()
        self._seen_in = outages

    async def _open_fence(self) -> Fence:
        try:
            return await self._take_fence()
        except FenceLost as error:
            if error.held is None:
                raise
            await self._outbid(error.held)
            return await self._take_fence()

    async def _take_fence(self) -> Fence:
        context = self._context
        name, claim = context.transport.name, self._claim
        taken = await context.database.through(
            lambda: context.writer.take(name, claim.partition, claim.epoch, context.member),
            self._stop,
        )
        taken.keeps = self._keeps_position
        if self._fence is None:
            self._fence = taken
        else:  # the same one: who writes what is handed over has it too
            self._fence.epoch = taken.epoch
            self._fence.through, self._fence.place = taken.through, taken.place
            self._fence.is_first = taken.is_first
        return self._fence

    async def _catch_up_rows(self) -> None:
        """Put back rows that PostgreSQL lost, and note how far the partition is settled."""
        fence = self._fence
        assert fence is not None
        if not fence.keeps:
            return
        floor = await self._catch_up.floor(fence)
        if fence.through is None and floor.offset:
            begin = await self._catch_up.begin(fence, floor)
            if begin is not None:
                await self._move(begin)
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
            await self._move(floor.offset)

    async def _position_now(self) -> str | None:
        return (await self._take_fence()).through

    async def _restore(self, records: Sequence[Record]) -> int:
        """Persist records that are acknowledged already; return how many rows are new."""
        trace = self._trace(records, time.time_ns())
        batch = _DeliveredBatch(records, time.perf_counter(), is_full=False, trace=trace)
        with trace:
            letters, rows = await self._write_all(batch)
            await self._send(letters, trace)
        if letters:
            await self._move(records[-1].offset)
        return rows

    async def _move(self, through: str) -> None:
        """Note that everything through an offset is settled, where no row says so."""
        context, fence = self._context, self._fence
        assert fence is not None
        if fence.keeps:
            await context.database.through(lambda: context.writer.move(fence, through), self._stop)

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

    async def catch_up_from(self, through: str) -> None:
        """Put back rows that PostgreSQL lost behind a position that a worker left.

        For the standby, when nobody reads the log any more; raises as ``run`` does. The position
        moves with the rows, so what is interrupted goes on from there.
        """
        fence = Fence(self._context.transport.name, self._claim.partition, 0, through)
        floor = await self._catch_up.floor(fence)
        if not await self._catch_up.is_covered(fence, floor):
            self._catch_up.warn(fence, floor)
        if self._context.positions.is_behind(through, floor):
            taken = await self._open_fence()
            after = through if taken.through is None else taken.through
            await self._catch_up.restore(taken, after, floor, passes_holes=True)

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
            await self._look()
        return _NOTHING

    async def _look(self) -> None:
        """Look whether PostgreSQL is still where this left it, while nothing is to be written.

        Another position is believed when it is seen a second time: a statement may be under way.

        Raises:
            FenceLost: it is not.
        """
        context, fence = self._context, self._fence
        assert fence is not None
        left, outages = fence.through, context.database.outages
        if left is None or self._stop.is_set():
            self._seen_in = outages
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
            self._seen_in = outages
        self._looked = outages, left

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
        outages = self._context.database.outages
        with batch.trace as trace:
            began = time.perf_counter()
            letters, ahead = await self._write_and_read_ahead(batch)
            log, through = self._context.log, batch.records[-1].offset
            await self._send(letters, trace)
            if letters:
                await self._move(through)
            acknowledging = time.time_ns()
            await log.through(lambda: self._claim.ack(through), self._stop)
            trace.acknowledged(acknowledging)
        self._seen_in = outages
        done = time.perf_counter()
        self._context.metrics.acknowledged(
            len(batch.records), done - batch.delivered, trace_id=trace.trace_id
        )
        self._batch_size.took(len(batch.records), done - began)
        return ahead

    async def _send(self, letters: Sequence[DeadLetter], trace: Delivery) -> None:
        """Append dead letters. Where the answer is lost that is done twice, and indexed once."""
        if not letters:
            return
        sending = time.time_ns()
        await self._context.log.through(
            lambda: self._context.transport.dead_letter(letters), self._stop
        )
        self._context.metrics.dead_lettered(letters)
        trace.dead_lettered(letters, sending)

    async def _write_and_read_ahead(
        self, batch: _DeliveredBatch
    ) -> tuple[list[DeadLetter], _DeliveredBatch | None]:
        if not batch.is_full or self._stop.is_set():
            letters, _ = await self._write_all(batch)
            return letters, None
        writing = asyncio.create_task(self._write_all(batch))
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
            # Met again, and dealt with, where the batch in hand is acknowledged or the next read.
            return None
        return batch if batch.records else None

    async def _write_all(self, batch: _DeliveredBatch) -> tuple[list[DeadLetter], int]:
        """Make a committed row of every record that can be one.

        Returns:
            The letters of the rest, and how many rows are new.
        """
        records, trace, rows = batch.records, batch.trace, 0
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
            rows += len(outcome.persisted)
            await self._record_failures()
            trace.written("persisted", (chunk[i].offset for i in outcome.persisted))
            trace.written("duplicate", (chunk[i].offset for i in outcome.duplicates))
            letters.update(_letters(outcome, records, where))
        return [letters[index] for index in sorted(letters)], rows

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
        failed = [
            positioned
            for positioned, result in zip(chunk, found, strict=True)
            if isinstance(result, ContentFailure)
        ]
        buried = await self._buried(failed) if failed else set[str]()
        for positioned, index, result in zip(chunk, where, found, strict=True):
            if positioned.event.message_id in buried and isinstance(result, ContentFailure):
                continue
            if isinstance(result, ContentFailure):
                letters[index] = _letter(
                    records[index], result.reason, result.error, context.attempts
                )
            else:
                kept.append(result)
                places.append(index)
        return kept, places

    async def _buried(self, failed: Sequence[PositionedEvent]) -> set[str]:
        """Return the ids of those whose rows were archived or erased, perhaps with the content."""
        ids = [positioned.event.message_id for positioned in failed]

        async def ask() -> set[str]:
            async with self._context.writer.connection() as connection:
                return await buried_among(connection, ids)

        found = await self._context.database.through(ask, self._stop)
        gone = [positioned for positioned in failed if positioned.event.message_id in found]
        self._context.metrics.written(gone, BatchOutcome([], list(range(len(gone))), [], []))
        return found

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
