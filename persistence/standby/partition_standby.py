"""One partition of a log that is not consumed: move its position over settled records.

    read ──► which are settled? ──► move up to the first that is not ──► wait a little
                                └── it has been the first for too long, and the rules
                                    allow it: persist it

So the position in this log is never beyond the first message that is not persisted, and near the
end: a worker may begin to consume the log from there at any moment, and the records before it may
be trimmed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice, takewhile

import msgspec
import structlog
from prometheus_client import Counter

from persistence.database.outage import stopped_within
from persistence.errors import FenceLost, Outage, Unexpected
from persistence.standby.other_readers import OtherReaders
from persistence.standby.settled_query import (
    LULL_SECONDS,
    SettlementQuery,
    UnsettledRecord,
    unsettled_record,
)
from persistence.standby.takeover_rules import LogRole, Originals, TakeoverReason
from persistence.worker.interruption import Interruption
from persistence.worker.partition_position import PartitionPosition
from persistence.worker.record_writer import RecordWriter
from persistence.worker.worker_context import WorkerContext
from transport.contract import WORKER_GROUP, Record, Topic

__all__ = ["PartitionStandby", "StandbyContext"]

_log = structlog.get_logger(__name__)

_SHORT_LULL_SECONDS = 0.05
"""The lull when it was just seen that no worker reads the log."""
_LONGEST_WAIT = 1.0
_MOVE_SECONDS = 1.0
# While the first record is not settled, the next ones hardly are: ask about a few only.
_PROBE = 8


class StandbyContext(msgspec.Struct, frozen=True):
    """Dependencies that the standbys of all partitions share. ``patience`` is in seconds."""

    worker: WorkerContext
    role: LogRole
    originals: Originals
    readers: OtherReaders
    patience: float
    query: SettlementQuery
    settled: Counter
    taken_over: Counter


class PartitionStandby:
    """Works on one partition that this process owns, as a ``PartitionReader`` does."""

    def __init__(
        self, position: PartitionPosition, context: StandbyContext, leave: asyncio.Event
    ) -> None:
        self.position = position
        self._context = context
        self._leave = leave
        self._interruption = Interruption(leave)
        self._writer = RecordWriter(context.worker, position, leave)
        self._waiting: deque[UnsettledRecord] = deque()
        self._through = ""
        self._moved_at = float("-inf")
        self._taking_over = False
        self._is_shared = False  # some processes read this log, and some the other
        self._looked_up = 0.0
        self.first: Record | None = None
        """The first unsettled record."""
        self.since = 0.0
        """Since when it is the first, with no outage in between, by the monotonic clock."""

    @property
    def stalled(self) -> bool:
        """Whether the first record has been unsettled for too long."""
        return self.first is not None and self._waited() > self._context.patience

    @property
    def through(self) -> str:
        """The offset through which every record is settled. PostgreSQL has it a second later."""
        return self._through

    @property
    def waits_at(self) -> str | None:
        """The position, unless it is about to be moved."""
        through = self.position.through
        return through if through == self._through else None

    async def run(self) -> None:
        """Follow the log until the work is to end; raises as ``PartitionReader.run`` does."""
        async with self._interruption:
            while not self._leave.is_set():
                try:
                    await self._open()
                    await self._follow()
                    await self.position.move(self._through)
                except FenceLost as error:
                    if error.held is not None:
                        raise
                    _log.warning(
                        "The position in PostgreSQL is not the one that was left, or another "
                        "process owns the partition: asking PostgreSQL",
                        transport=self._context.worker.transport.name,
                        partition=self.position.partition,
                        error=str(error),
                    )

    async def _open(self) -> None:
        await self.position.open()
        self._through = self.position.through
        self._waiting.clear()
        self.first, self._taking_over = None, False

    async def _follow(self) -> None:
        wait = self._context.worker.poll
        while not self._leave.is_set() and not self.position.is_elsewhere:
            await self._gather(wait)
            if time.monotonic() - self._moved_at > _MOVE_SECONDS:
                await self._move()
            if not self._waiting:
                wait = self._context.worker.poll
                continue
            behind = len(self._waiting) >= self._context.worker.batch_size
            await self._ask_about_waiting()
            moved = self._pass_settled()
            if moved:
                self._taking_over = False
            elif await self._take_over():
                moved, behind = True, True
            wait = self._next_wait(wait, moved=moved, behind=behind)

    async def _move(self) -> None:
        """Move the position in PostgreSQL, which was committed after what it passes."""
        await self.position.move(self._through)
        self._moved_at = time.monotonic()

    async def _gather(self, seconds: float) -> None:
        """Read for ``seconds`` (at least once), and wait a lull whenever records came."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        most = self._context.worker.batch_size
        while not self._leave.is_set():
            room = most - len(self._waiting)
            if room <= 0:
                await stopped_within(self._leave, max(0.0, deadline - loop.time()))
                return
            records = await self._next(room, max(0.0, deadline - loop.time()))
            met = [unsettled_record(record) for record in records]
            if met and not self._waiting:
                deadline = min(deadline, loop.time() + self._lull)
            self._waiting.extend(met)
            left = deadline - loop.time()
            if left <= 0 or len(records) >= room > 1 or self.position.is_elsewhere:
                return
            if records:
                await stopped_within(self._leave, min(self._lull, left))

    async def _next(self, most: int, wait: float) -> Sequence[Record]:
        transport, partition = self._context.worker.transport, self.position.partition
        after = self._waiting[-1].record.offset if self._waiting else self._through
        records = await self._context.worker.log_barrier.run(
            lambda: self._interruption.unless_stopped(
                lambda: transport.read(
                    Topic.MESSAGES, partition, after=after or None, limit=most, wait=wait
                )
            ),
            self._leave,
        )
        return records or ()

    async def _ask_about_waiting(self) -> None:
        """Find the settled records.

        If the first record was found unsettled before, ask about the first few only, with dead
        letters; and about the others once it is settled.
        """
        again = self.first is not None and self.first.offset == self._waiting[0].record.offset
        if again:
            await self._ask(list(islice(self._waiting, _PROBE)), letters=True)
            if not self._waiting[0].settled:
                return
        await self._ask(self._waiting, letters=again)

    async def _ask(self, records: Iterable[UnsettledRecord], *, letters: bool) -> None:
        asked = list(records)
        while True:
            try:
                return await self._context.query.ask(asked, letters=letters)
            except Unexpected:
                raise
            except Outage as error:
                self.first = None  # no worker could have persisted it: patience begins anew
                await self._context.worker.database_barrier.hold(error, self._leave)

    def _pass_settled(self) -> bool:
        """Pass the settled records from the first on; return whether there were any."""
        count = sum(1 for _ in takewhile(lambda waiting: waiting.settled, self._waiting))
        if count:
            self._pass(count)
            self._context.settled.inc(count)
        if not self._waiting:
            self.first = None
        elif self.first is None or self.first.offset != self._waiting[0].record.offset:
            self.first, self.since = self._waiting[0].record, time.monotonic()
        return count > 0

    def _pass(self, count: int) -> None:
        self._through = self._waiting[count - 1].record.offset
        for _ in range(count):
            self._waiting.popleft()

    async def _take_over(self) -> bool:
        """Persist records that no worker will, if it is time; return whether any were."""
        first = self._waiting[0]
        why = self._context.role.why(first.record)
        if why is None:
            count = await self._orphans() if self.stalled else 0
            why = TakeoverReason.ORPHANED
        elif await self._is_time(first, why):
            allowed = takewhile(
                lambda waiting: self._context.role.why(waiting.record), self._waiting
            )
            count = sum(1 for _ in allowed)
        else:
            return False
        if not count:
            return False
        asked = list(islice(self._waiting, count))
        await self._ask(asked, letters=True)
        if asked[0].settled:
            return False
        count = 1 + max(place for place, waiting in enumerate(asked) if not waiting.settled)
        if self._leave.is_set():  # the next owner does it, as soon as this one has left
            return False
        await self._persist(
            [waiting.record for waiting in asked[:count] if not waiting.settled], why
        )
        self._pass(count)
        self.first, self._taking_over = None, True
        return True

    async def _persist(self, records: Sequence[Record], why: TakeoverReason) -> None:
        context, partition = self._context.worker, self.position.partition
        name = context.transport.name
        if not self._taking_over:
            _log.warning(
                "Standby takes over records that no worker will persist",
                reason=why.value,
                transport=name,
                partition=partition,
                first=records[0].offset,
                count=len(records),
            )
        began, asked = time.perf_counter(), time.time_ns()
        await self._move()
        with context.deliveries.begin(name, WORKER_GROUP, records, asked) as trace:
            await self._writer.persist(records, trace)
        context.metrics.acknowledged(
            len(records), time.perf_counter() - began, trace_id=trace.trace_id
        )
        self._context.taken_over.labels(name, why.value).inc(len(records))

    async def _is_time(self, first: UnsettledRecord, why: TakeoverReason) -> bool:
        self._is_shared = why is TakeoverReason.STALLED and await self._context.readers.are_there()
        if self._is_shared:
            # Perhaps no worker reads the other log's partition either: after a lull it is known.
            return time.monotonic() - first.seen >= self._lull
        # Once it has taken over, it goes on without waiting for each record anew, until another
        # process persists one.
        old = time.time() - first.record.appended_at > self._context.patience
        return self.stalled or (self._taking_over and old)

    @property
    def _lull(self) -> float:
        return _SHORT_LULL_SECONDS if self._taking_over and self._is_shared else LULL_SECONDS

    async def _orphans(self) -> int:
        """Count the records, from the first on, that are copies of lost originals."""
        if time.monotonic() - self._looked_up < self._context.patience:
            return 0
        self._looked_up = time.monotonic()
        passed = await self._passed(self._waiting)
        # What a position has passed was settled before. If a query after that finds it unsettled,
        # the record is lost, unless PostgreSQL went back in between.
        asked = list(islice(self._waiting, passed))
        await self._ask(asked, letters=True)
        return await self._passed(takewhile(lambda waiting: not waiting.settled, asked))

    async def _passed(self, copies: Iterable[UnsettledRecord]) -> int:
        """Count the copies, from the first on, whose original its log's position has passed."""
        passed, now = 0, time.monotonic()
        for waiting in copies:
            if self._context.role.why(waiting.record) is not None or not (
                await self._context.originals.passed(waiting.record, since=now)
            ):
                break
            passed += 1
        return passed

    def _waited(self) -> float:
        return time.monotonic() - self.since

    def _next_wait(self, last: float, *, moved: bool, behind: bool) -> float:
        if moved and self._taking_over and self._is_shared:
            return self._lull
        if moved:
            return 0.0 if behind else LULL_SECONDS
        wait = min(_LONGEST_WAIT, max(LULL_SECONDS, 2 * last))
        if self._is_shared:
            left = self._lull - (time.monotonic() - self._waiting[0].seen)
            return max(0.05, left) if left > 0 else LULL_SECONDS
        left = self._context.patience - self._waited()
        return min(wait, max(0.05, left)) if left > 0 else wait
