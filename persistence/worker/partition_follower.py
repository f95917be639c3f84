"""Follow one partition: move its position over settled records, and persist where that is allowed.

    read ──► wait a little ──► which are settled? ──► move up to the first that is not
                                       └── it stays unsettled, and the chain allows it: persist it

A partition is followed where records may not become rows, or only up to a mark of the chain, and
where another log brings them first. So the position is never beyond the first message that is not
persisted, and near the end: a worker may begin to read the log from there at any moment, and the
records before it may be trimmed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice, takewhile

import msgspec

from persistence.database.outage import stopped_within
from persistence.errors import Outage, Unexpected
from persistence.worker.interruption import Interruption
from persistence.worker.partition_position import PartitionPosition
from persistence.worker.record_writer import RecordWriter
from persistence.worker.settled_query import UnsettledRecord, unsettled_record
from persistence.worker.worker_context import WorkerContext
from transport.clock import timestamp
from transport.contract import WORKER_GROUP, Record, Topic
from transport.shadow.origin import origin_of

__all__ = ["PartitionFollower", "WaitingPartition"]

_LULL_SECONDS = 0.25
"""Long enough for another log to bring the record first, and for a query of many records."""
_LONGEST_WAIT = 1.0
_MOVE_SECONDS = 1.0
# While the first record is not settled, the next ones hardly are: ask about a few only.
_PROBE = 8


class WaitingPartition(msgspec.Struct, frozen=True):
    """A partition whose next record is not settled. ``since`` is RFC 3339."""

    partition: int
    offset: str
    since: str
    reason: str


class PartitionFollower:
    """Follows a partition that this process owns.

    Args:
        position: The partition's position.
        context: The dependencies of its log.
        writer: Persists records of the partition.
        interruption: Ends reads of the log.
        leave: Ends the work.
    """

    def __init__(
        self,
        position: PartitionPosition,
        context: WorkerContext,
        *,
        writer: RecordWriter,
        interruption: Interruption,
        leave: asyncio.Event,
    ) -> None:
        self._position = position
        self._context = context
        self._writer = writer
        self._interruption = interruption
        self._leave = leave
        self._waiting: deque[UnsettledRecord] = deque()
        self._through = ""
        self._is_running = False
        self._moved_at = float("-inf")
        self._first: Record | None = None
        # Since when it is the first, with no outage in between, by the monotonic clock.
        self._since = 0.0

    def waits(self, *, longer_than: float) -> WaitingPartition | None:
        """Return the unsettled record that is waited for, for so many seconds; else ``None``."""
        record, seconds = self._first, time.monotonic() - self._since
        if record is None or seconds < longer_than:
            return None
        reason = "its message is not persisted, and the chain does not lead to this log yet"
        if origin := origin_of(record):
            reason = (
                "its message is not persisted; the workers have it before them in "
                f"{origin.transport}, at {origin.offset}"
            )
        since = timestamp(time.time() - seconds)
        return WaitingPartition(self._position.partition, record.offset, since, reason)

    @property
    def waits_at(self) -> str | None:
        """The position, while it is followed and not about to be moved."""
        through = self._position.through
        return through if self._is_running and through == self._through else None

    async def run(self) -> None:
        """Follow from the position until it has to be opened again, or until ``leave`` is set.

        Raises:
            FenceLost: another process is the owner, or the position or the chain has changed.
            Stopping: ``leave`` was set while it waited for a dependency.
            Unexpected: an error without a rule.
        """
        self._through, self._is_running = self._position.through, True
        self._waiting.clear()
        wait = self._context.poll
        try:
            while not self._leave.is_set() and not self._position.is_elsewhere:
                wait = await self._follow(wait)
            await self._move()
        finally:
            self._first, self._is_running = None, False

    async def _follow(self, wait: float) -> float:
        """Follow for a moment; return how long to wait for the next records, in seconds."""
        await self._gather(wait)
        if time.monotonic() - self._moved_at > _MOVE_SECONDS:
            await self._move()
        if not self._waiting:
            return self._context.poll
        is_behind = len(self._waiting) >= self._context.batch_size
        await self._ask_about_waiting()
        if self._pass_settled() or await self._persist_first():
            return 0.0 if is_behind else _LULL_SECONDS
        if self._readable():
            return _LULL_SECONDS
        return min(_LONGEST_WAIT, max(_LULL_SECONDS, 2 * wait))

    async def _move(self) -> None:
        """Move the position in PostgreSQL, which was committed after what it passes."""
        await self._position.move(self._through)
        self._moved_at = time.monotonic()

    async def _gather(self, seconds: float) -> None:
        """Read for ``seconds`` (at least once), and wait a lull whenever records came."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        most = self._context.batch_size
        while not self._leave.is_set():
            room = most - len(self._waiting)
            if room <= 0:
                await stopped_within(self._leave, max(0.0, deadline - loop.time()))
                return
            records = await self._next(room, max(0.0, deadline - loop.time()))
            met = [unsettled_record(record) for record in records]
            if met and not self._waiting:
                deadline = min(deadline, loop.time() + _LULL_SECONDS)
            self._waiting.extend(met)
            left = deadline - loop.time()
            if left <= 0 or len(records) >= room > 1 or self._position.is_elsewhere:
                return
            if records:
                await stopped_within(self._leave, min(_LULL_SECONDS, left))

    async def _next(self, most: int, wait: float) -> Sequence[Record]:
        transport, partition = self._context.transport, self._position.partition
        after = self._waiting[-1].record.offset if self._waiting else self._through
        records = await self._context.log_barrier.run(
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
        again = self._first is not None and self._first.offset == self._waiting[0].record.offset
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
                self._first = None  # no worker could have persisted it
                await self._context.database_barrier.hold(error, self._leave)

    def _pass_settled(self) -> bool:
        """Pass the settled records from the first on; return whether there were any."""
        count = sum(1 for _ in takewhile(lambda waiting: waiting.settled, self._waiting))
        if count:
            self._pass(count)
        if not self._waiting:
            self._first = None
        elif self._first is None or self._first.offset != self._waiting[0].record.offset:
            self._first, self._since = self._waiting[0].record, time.monotonic()
        return count > 0

    def _pass(self, count: int) -> None:
        self._through = self._waiting[count - 1].record.offset
        for _ in range(count):
            self._waiting.popleft()

    def _readable(self) -> int:
        """Count the waiting records that the chain allows to become rows, from the first on."""
        allowed = takewhile(
            lambda waiting: self._position.allows(waiting.record.offset), self._waiting
        )
        return sum(1 for _ in allowed)

    async def _persist_first(self) -> bool:
        """Persist the unsettled records that may become rows here; return whether any were.

        They have waited a lull in which nothing before them was settled.
        """
        if time.monotonic() - self._since < _LULL_SECONDS or not (count := self._readable()):
            return False
        asked = list(islice(self._waiting, count))
        await self._ask(asked, letters=True)
        if asked[0].settled or self._leave.is_set():
            return False
        count = 1 + max(place for place, waiting in enumerate(asked) if not waiting.settled)
        await self._persist([waiting.record for waiting in asked[:count] if not waiting.settled])
        self._pass(count)
        self._first = None
        return True

    async def _persist(self, records: Sequence[Record]) -> None:
        context = self._context
        began, asked = time.perf_counter(), time.time_ns()
        await self._move()
        with context.deliveries.begin(
            context.transport.name, WORKER_GROUP, records, asked
        ) as trace:
            await self._writer.persist(records, trace)
        context.metrics.acknowledged(
            len(records), time.perf_counter() - began, trace_id=trace.trace_id
        )
