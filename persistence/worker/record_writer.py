"""Turn each record into a committed row or, if that is impossible, into a dead letter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

from otel.tracing.deliveries import Delivery
from persistence.errors import Outage, PersistenceError, Rejected, TooSlow, Unexpected
from persistence.store.batch import PositionedEvent, Written
from persistence.store.group_writer import STATEMENT_BYTES
from persistence.store.lookup import buried_among
from persistence.worker.batch.attempt_log import Failed
from persistence.worker.batch.bisect import BatchOutcome, isolate
from persistence.worker.batch.contents import ContentFailure, has_payload, held_bytes
from persistence.worker.batch.decoding import decode_all
from persistence.worker.partition_position import PartitionPosition
from persistence.worker.worker_context import WorkerContext
from transport.clock import now
from transport.contract import DeadLetter, Reason, Record
from transport.errors import one_line
from transport.message.envelope import Message

__all__ = ["RecordWriter"]


class RecordWriter:
    """Writes records of the position's partition. Waits out outages.

    Args:
        context: The dependencies of the partition's log.
        position: The position.
        stop: Ends every wait.
    """

    def __init__(
        self, context: WorkerContext, position: PartitionPosition, stop: asyncio.Event
    ) -> None:
        self._context = context
        self._position = position
        self._fence = position.fence
        self._stop = stop
        self._failed: list[Failed] = []

    async def persist(self, records: Sequence[Record], trace: Delivery) -> None:
        """Write records in their order, append their dead letters, and move the position.

        A record that the position has passed is never read again. So the position passes a record
        that can't be a row only once its dead letter is durable.

        Args:
            records: The records after the position.
            trace: Gets what becomes of them.

        Raises:
            FenceLost: another process is the owner, or the position is elsewhere.
            Stopping: stopped while it waited for a dependency.
            Unexpected: an error without a rule.
        """
        try:
            letters = await self._write_all(records, trace)
        finally:
            self._fence.stays = False
        await self._send(letters, trace)
        moving = time.time_ns()
        await self._position.move(records[-1].offset)
        trace.settled(moving)

    async def _send(self, letters: Sequence[DeadLetter], trace: Delivery) -> None:
        """Append dead letters. If the answer is lost, they are appended twice and indexed once."""
        if not letters:
            return
        sending, transport = time.time_ns(), self._context.transport
        await self._context.log_barrier.run(lambda: transport.dead_letter(letters), self._stop)
        self._context.metrics.dead_lettered(letters)
        trace.dead_lettered(letters, sending)

    async def _write_all(self, records: Sequence[Record], trace: Delivery) -> list[DeadLetter]:
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
                chunk, where = await self._with_contents(chunk, where, records, trace, letters)
            self._fence.stays = self._fence.stays or bool(letters)
            outcome = await isolate(chunk, write, attempts=self._context.attempts)
            if outcome.refused:
                await self._spare_erased(chunk, outcome)
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
        records: Sequence[Record],
        trace: Delivery,
        letters: dict[int, DeadLetter],
    ) -> tuple[list[PositionedEvent], list[int]]:
        """Return records with their content, and their indexes; the others go to ``letters``."""
        context = self._context
        found = await context.contents.of(chunk, self._content_failed, trace, self._stop)
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
        """Return the ids whose rows were archived or erased, perhaps together with the content."""
        found = await self._among_buried(failed, archived=True)
        gone = [positioned for positioned in failed if positioned.event.message_id in found]
        self._context.metrics.written(gone, BatchOutcome([], list(range(len(gone))), [], []))
        return found

    async def _spare_erased(self, chunk: Sequence[PositionedEvent], outcome: BatchOutcome) -> None:
        """Count refused records of erased messages as repeats: a letter would have their bytes."""
        refused = [chunk[one.index] for one in outcome.refused]
        erased = await self._among_buried(refused, archived=False)
        gone = [one for one in outcome.refused if chunk[one.index].event.message_id in erased]
        outcome.refused = [one for one in outcome.refused if one not in gone]
        outcome.duplicates += [one.index for one in gone]
        self._failed = [attempt for attempt in self._failed if attempt.message_id not in erased]

    async def _among_buried(
        self, positioned: Sequence[PositionedEvent], *, archived: bool
    ) -> set[str]:
        ids = [one.event.message_id for one in positioned]

        async def ask() -> set[str]:
            async with self._context.writer.connection() as connection:
                return await buried_among(connection, ids, archived=archived)

        return await self._context.database_barrier.run(ask, self._stop)

    def _content_failed(self, positioned: PositionedEvent, error: PersistenceError) -> None:
        self._context.metrics.refused()
        self._note(positioned, error)

    async def _write(self, trace: Delivery, batch: Sequence[PositionedEvent]) -> Written:
        context = self._context

        def attempted(began: int, error: BaseException | None) -> None:
            trace.attempted((positioned.offset for positioned in batch), began, error)

        while True:
            try:
                written = await context.group_writer.write(batch, self._fence, attempted)
            except Unexpected:
                raise
            except Rejected as rejection:
                if len(batch) == 1:
                    self._fence.stays = True
                    context.metrics.refused()
                    self._note(batch[0], rejection)
                raise
            except Outage as outage:
                await context.database_barrier.hold(outage, self._stop)
                if isinstance(outage, TooSlow) and len(batch) > 1:
                    raise  # halved by isolate()
            else:
                self._fence.stays = self._fence.stays or bool(written.conflicts)
                return written

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
                one_line(error),
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
    return DeadLetter(record, reason, one_line(error), attempts, now())


def _chunks(
    positioned: Sequence[PositionedEvent], row_bytes: int
) -> Iterator[tuple[int, Sequence[PositionedEvent]]]:
    """Split a batch so that no statement is too large; mostly it is one chunk.

    Content from the payload store counts if the row will hold it: up to ``row_bytes``.
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
