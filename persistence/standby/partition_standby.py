"""One claim of a log that is not consumed: acknowledge settled records, in order, and wait.

    next ──► which are settled? ──► ack up to the first that is not ──► wait a little
                                └── it has been the first for too long, and the rules
                                    allow it: persist it, through a PartitionWorker

So the group's place in this log is never beyond the first message that is not persisted, and near
the end: a worker may begin to consume the log from there at any moment, and the records before it
may be trimmed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice, takewhile

import msgspec
import structlog
from prometheus_client import Counter

from persistence.database.outage import Stopping, stopped_within
from persistence.errors import Outage, Unexpected
from persistence.standby.other_readers import OtherReaders
from persistence.standby.restores import Restores
from persistence.standby.settled_query import (
    LULL_SECONDS,
    SettlementQuery,
    UnsettledRecord,
    unsettled_record,
)
from persistence.standby.standby_feed import StandbyFeed
from persistence.standby.takeover_rules import LogRole, Originals, TakeoverReason
from persistence.worker.interruption import Interruption
from persistence.worker.partition_worker import PartitionWorker
from persistence.worker.recovery.positions import Floor
from persistence.worker.worker_context import WorkerContext
from transport.contract import Claim, HandingClaim, Record, RetainingClaim

__all__ = ["PartitionStandby", "StandbyContext"]

_log = structlog.get_logger(__name__)

_SHORT_LULL_SECONDS = 0.05
"""The lull when it was just seen that no worker reads the log."""
_LONGEST_WAIT = 1.0
_NOTE_SECONDS = 5.0
# While the first record is not settled, the next ones hardly are: ask about a few only.
_PROBE = 8


class StandbyContext(msgspec.Struct, frozen=True):
    """Dependencies that the standbys of all partitions share. ``patience`` is in seconds."""

    worker: WorkerContext
    role: LogRole
    originals: Originals
    restores: Restores
    readers: OtherReaders
    patience: float
    query: SettlementQuery
    acknowledged: Counter
    taken_over: Counter


class PartitionStandby:
    """Works on one claim, until another owner or a stop ends it.

    Raises as a ``PartitionWorker`` does.
    """

    def __init__(self, claim: Claim, context: StandbyContext, stop: asyncio.Event) -> None:
        self._claim = claim
        self._context = context
        self._stop = stop
        self._interruption = Interruption(stop)
        self._waiting: deque[UnsettledRecord] = deque()
        self._seen: dict[str, float] = {}  # when the feed got records that are delivered again
        self._worker: PartitionWorker | None = None
        self._taking_over = False
        self._is_shared = False  # some processes read this log, and some the other
        self._looked_up = 0.0
        self._log: str | None = None
        self._noted: str | None = None
        self._noted_at = float("-inf")
        self.position: str | None = None
        """The offset through which this claim has acknowledged."""
        self.first: Record | None = None
        """The first unsettled record."""
        self.since = 0.0
        """Since when it is the first, with no outage in between, by the monotonic clock."""

    @property
    def stalled(self) -> bool:
        """Whether the first record has been unsettled for too long."""
        return self.first is not None and self._waited() > self._context.patience

    async def run(self) -> None:
        """Acknowledge until the stop event is set. Records that wait then stay unacknowledged."""
        await self._forget_position()
        async with self._interruption, self._handed_over():
            await self._acknowledge_until_stopped()
        await self._note(self.position)

    @asynccontextmanager
    async def _handed_over(self) -> AsyncIterator[None]:
        """Have a feed acknowledge what this process appends itself, until the block ends."""
        claim, context = self._claim, self._context
        if not isinstance(claim, HandingClaim):
            yield
            return
        feed = StandbyFeed(
            claim,
            context.query,
            most=context.worker.batch_size,
            # Nobody else would persist what it takes: it would only wait there.
            is_closed=lambda: self._taking_over,
            acknowledged=self._acknowledged,
            refused=self._refused,
        )
        claim.hand_over(feed.take)
        try:
            yield
        finally:
            await feed.close()

    def _refused(self, records: Iterable[UnsettledRecord]) -> None:
        self._seen = {waiting.record.offset: waiting.seen for waiting in records}

    def _acknowledged(self, through: str, count: int) -> None:
        self.position = through
        self._context.acknowledged.inc(count)

    async def _acknowledge_until_stopped(self) -> None:
        wait = self._context.worker.poll
        while not self._stop.is_set():
            await self._gather(wait)
            if time.monotonic() - self._noted_at > _NOTE_SECONDS:
                await self._note(self.position)
            if not self._waiting:
                wait = self._context.worker.poll
                continue
            behind = len(self._waiting) >= self._context.worker.batch_size
            await self._look()
            moved = await self._acknowledge()
            if moved:
                self._taking_over = False
            elif await self._take_over():
                moved, behind = True, True
            wait = self._next_wait(wait, moved=moved, behind=behind)

    async def _forget_position(self) -> None:
        """Put back rows that PostgreSQL lost while workers read this log; then keep no position.

        A standby acknowledges records that others persisted, as soon as they are settled.
        """
        context, partition = self._context.worker, self._claim.partition
        name, writer = context.transport.name, context.writer
        may_be_behind = [True]
        if isinstance(self._claim, RetainingClaim):
            self._claim.retain(lambda: bool(may_be_behind))
        known = await context.database_barrier.run(
            lambda: writer.position(name, partition), self._stop
        )
        floor = await context.log_barrier.run(
            lambda: context.positions.floor(partition), self._stop
        )
        self._log = floor.log
        noted = None if known is not None else await self._left_unsettled(floor)
        begin = known if noted is None else noted
        if begin is not None:
            # The position stays known meanwhile: if this standby is stopped, the next one goes on
            # from it.
            await PartitionWorker(self._claim, context, self._stop).catch_up_from(
                begin, None if noted is None else floor.log
            )
        await self._note(floor.offset)
        if begin is not None:
            await context.database_barrier.run(
                lambda: writer.forget_position(name, partition, self._claim.epoch), self._stop
            )
        may_be_behind.clear()

    async def _left_unsettled(self, floor: Floor) -> str | None:
        """Return where to put rows back from, if any is missing that the group has passed.

        If the group is beyond what the standby before noted, as a rule that standby was killed, and
        all in between is settled. But PostgreSQL may have been restored to a moment before workers
        read this log, and nobody else has these records. Those that the other logs have too come
        from there first: this log may lack some of them.
        """
        context, partition = self._context.worker, self._claim.partition
        if (log := floor.log) is None:
            return None
        noted = await context.database_barrier.run(
            lambda: context.writer.noted_by_standby(context.transport.name, partition, log),
            self._stop,
        )
        if noted is None or not context.positions.is_behind(noted, floor):
            return None
        while await self._context.restores.any_is_due(self._stop):
            if await stopped_within(self._stop, LULL_SECONDS):
                raise Stopping
        return await self._before_unsettled(noted, floor)

    async def _before_unsettled(self, after: str, floor: Floor) -> str | None:
        """Return a position before the first unsettled record of those up to ``floor``."""
        context, partition = self._context.worker, self._claim.partition
        if not await context.log_barrier.run(
            lambda: context.positions.reaches(partition, after), self._stop
        ):
            return after  # what the log holds no more can't be asked about: it is told
        while True:
            page = await context.log_barrier.run(
                partial(context.positions.read, partition, after, floor, context.batch_size),
                self._stop,
            )
            if not page:
                return None
            asked = [unsettled_record(record) for record in page]
            await self._ask(asked, letters=True)
            if not all(waiting.settled for waiting in asked):
                return after
            after = page[-1].offset

    async def _note(self, through: str | None) -> None:
        """Note in PostgreSQL that everything ``through`` an offset is settled.

        The rows were committed before. So a backup that has the note has the rows too, and a worker
        that takes this partition over in that backup's database knows where to begin.
        """
        if through is None or through == self._noted or self._log is None:
            return
        context, partition, log = self._context.worker, self._claim.partition, self._log
        await context.database_barrier.run(
            lambda: context.writer.note_standby(context.transport.name, partition, through, log),
            self._stop,
        )
        self._noted, self._noted_at = through, time.monotonic()

    async def _gather(self, seconds: float) -> None:
        """Read for ``seconds`` (at least once), and wait a lull whenever records came.

        A read also notices the end of the claim, so this reads even if enough records wait.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        most = self._context.worker.batch_size
        while not self._stop.is_set():
            if len(self._waiting) >= 2 * most:
                self._waiting.clear()
                await self._claim.nack()
            room = max(1, most - len(self._waiting))
            records = await self._next(room, max(0.0, deadline - loop.time()))
            met = [self._met(record) for record in records]
            if met and not self._waiting:
                age = time.monotonic() - met[0].seen
                deadline = min(deadline, loop.time() + max(0.0, self._lull - age))
            self._waiting.extend(met)
            left = deadline - loop.time()
            if left <= 0 or len(records) >= room > 1:
                return
            if records:
                await stopped_within(self._stop, min(self._lull, left))

    def _met(self, record: Record) -> UnsettledRecord:
        waiting = unsettled_record(record)
        waiting.seen = self._seen.pop(record.offset, waiting.seen)
        return waiting

    async def _next(self, most: int, wait: float) -> Sequence[Record]:
        claim = self._claim
        records = await self._context.worker.log_barrier.run(
            lambda: self._interruption.unless_stopped(
                lambda: claim.next(max_records=most, max_wait=wait)
            ),
            self._stop,
        )
        return records or ()

    async def _look(self) -> None:
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
                await self._context.worker.database_barrier.hold(error, self._stop)

    async def _acknowledge(self) -> bool:
        """Acknowledge the settled records from the first on; return whether there were any."""
        count = sum(1 for _ in takewhile(lambda waiting: waiting.settled, self._waiting))
        if count:
            through = self._waiting[count - 1].record.offset
            await self._context.worker.log_barrier.run(lambda: self._claim.ack(through), self._stop)
            self._passed(count)
            self._context.acknowledged.inc(count)
        if not self._waiting:
            self.first = None
        elif self.first is None or self.first.offset != self._waiting[0].record.offset:
            self.first, self.since = self._waiting[0].record, time.monotonic()
        return count > 0

    def _passed(self, count: int) -> None:
        self.position = self._waiting[count - 1].record.offset
        for _ in range(count):
            self._waiting.popleft()

    async def _take_over(self) -> bool:
        """Persist records that no other worker will, if it is time; return whether any were."""
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
        records = [waiting.record for waiting in asked[:count] if not waiting.settled]
        if await self._context.restores.are_due(records, self._stop):
            # Workers that put back earlier rows have not stalled: patience begins anew.
            self.since, self._taking_over = time.monotonic(), False
            return False
        if self._stop.is_set():  # the next owner does it, as soon as this one has left
            return False
        await self._persist(records, why)
        self._passed(count)
        self.first, self._taking_over = None, True
        return True

    async def _persist(self, records: Sequence[Record], why: TakeoverReason) -> None:
        name, partition = self._context.worker.transport.name, self._claim.partition
        if not self._taking_over:
            _log.warning(
                "Standby takes over records that no other worker will persist",
                reason=why.value,
                transport=name,
                partition=partition,
                first=records[0].offset,
                count=len(records),
            )
        if self._worker is None:
            worker = PartitionWorker(
                self._claim, self._context.worker, self._stop, keeps_position=False
            )
            await worker.open()
            self._worker = worker
        await self._worker.persist(records)
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
        passed = 0
        for waiting in self._waiting:
            if self._context.role.why(waiting.record) is not None or not (
                await self._context.originals.passed(waiting.record, seen=waiting.seen)
            ):
                break
            passed += 1
        # The original's workers acknowledged it, so it was settled before. If a query after that
        # finds it unsettled, the record is lost.
        await self._ask(islice(self._waiting, passed), letters=True)
        unsettled = takewhile(lambda waiting: not waiting.settled, islice(self._waiting, passed))
        return sum(1 for _ in unsettled)

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
