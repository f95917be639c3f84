"""One partition that is read on at consecutive offsets, and its records fetched ahead."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from transport.contract import READ_BYTES, Record
from transport.kafka.read_ahead.damaged_batches import DamagedBatchWait
from transport.sizes import size_of

__all__ = ["Failure", "FollowedPartition", "HeldBytes"]

_FULL_RECORDS, _FULL_BYTES = 4000, 1024 * 1024
_KEPT = 10.0  # seconds for which a partition without reads is still fetched


class Failure(NamedTuple):
    """The last error of a partition's fetches, its time, and that of the first (loop time)."""

    error: Exception
    since: float
    at: float


class HeldBytes:
    """The size of the records that all partitions of a log hold in memory."""

    bytes: int = 0


class FollowedPartition:
    """The fetch position of a partition, and the records before it that were not read yet.

    A read that continues where the last one ended takes its records from memory. ``position`` is
    the first offset that was not read, ``fetched`` the next offset to fetch. Records that were
    handed over follow it: the next fetch shows whether the log has them, and under which leader
    epoch. Times are of the event loop's clock.
    """

    def __init__(self, at: TopicPartition, start: int, now: float, held: HeldBytes) -> None:
        self.at = at
        self.position = start
        self.fetched = start
        self.bytes = 0
        self._held = held
        self.failure: Failure | None = None
        self.is_out_of_range = False
        """Whether the log has no record at ``fetched``, and that is not its end."""
        self.is_closed = False
        """Whether answers for it are to be dropped."""
        self.epoch: int | None = None
        """The leader epoch of the record before ``fetched``, or an earlier one, if known."""
        self.is_epoch_known = False
        """Whether it was looked up; ``epoch`` is ``None`` if no process knew it."""
        self.noted_from = start
        """The first offset that the next leader epoch is noted for."""
        self.is_confirmed = False
        """Whether the last answer continued the log: none failed since."""
        self.damaged: DamagedBatchWait | None = None
        self.handed = deque[Record]()
        """The adjacent records from ``fetched`` on that no fetch has brought yet."""
        self._handed_bytes = 0
        self.empty_at = float("-inf")
        """When the log surely ended at ``fetched``, last."""
        self._records: deque[tuple[int, Record]] = deque()
        self._readers = 0
        self._used_at = now
        self._changed = asyncio.Event()

    @property
    def following(self) -> int:
        """The offset after the last record that was fetched or handed over."""
        return self.fetched + len(self.handed)

    @property
    def takes_more(self) -> bool:
        """Whether more may be handed over: fetches may fail, or wait for a transaction to end."""
        return len(self.handed) < _FULL_RECORDS and self._handed_bytes < _FULL_BYTES

    @property
    def is_full(self) -> bool:
        """Whether enough is fetched ahead for now."""
        return self.bytes >= _FULL_BYTES or len(self._records) >= _FULL_RECORDS

    def continues_at(self, start: int) -> bool:
        """Return whether a read from ``start`` on continues where the last one ended.

        Offsets without a record in between (markers of transactions, for example) don't matter.
        """
        next_record = self._records[0][0] if self._records else self.following
        return start == self.position or self.position <= start <= next_record

    def is_in_use(self, now: float, within: float = 1.0) -> bool:
        """Return whether a read waits for it, or used it in the last ``within`` seconds."""
        return self._readers > 0 or now - self._used_at < within

    def is_abandoned(self, now: float) -> bool:
        """Return whether to fetch it no longer."""
        return self.is_closed or not self.is_in_use(now, _KEPT)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep the fetch position for a read."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            self._used_at = asyncio.get_running_loop().time()

    def take(self, limit: int) -> list[Record]:
        """Take up to ``limit`` records; the one that reaches ``READ_BYTES`` is the last.

        The last record that was fetched before the log lost its tail is also the last.
        """
        records, taken, size, last = self._records, list[Record](), 0, -1
        while records and records[0][0] > last and len(taken) < limit and size < READ_BYTES:
            last, record = records.popleft()
            size += size_of(record)
            taken.append(record)
        self._count(-size)
        if taken:
            self.position = last + 1
        return taken

    def add(self, records: Sequence[Record], fetched: int) -> None:
        """Add fetched records in order; ``fetched`` is the offset after them."""
        self._hold(records)
        self._drop_handed()
        self.fetched = fetched
        self.failure = self.damaged = None

    def hand_over(self, records: Sequence[Record]) -> None:
        """Add records from ``following`` on that the log has, without a fetch."""
        self.handed.extend(records)
        self._handed_bytes += sum(map(size_of, records))
        self._hold(records)

    def confirm(self, fetched: int) -> None:
        """Note that the log has the records that were handed over below this offset."""
        while self.handed and self.fetched < fetched:
            self._handed_bytes -= size_of(self.handed.popleft())
            self.fetched += 1
        self.failure = self.damaged = None

    def _drop_handed(self) -> None:
        self.handed.clear()
        self._handed_bytes = 0

    def _hold(self, records: Sequence[Record]) -> None:
        self._records.extend([(int(record.offset), record) for record in records])
        self._count(sum(map(size_of, records)))
        if records:
            self.wake()

    def _count(self, size: int) -> None:
        self.bytes += size
        if not self.is_closed:
            self._held.bytes += size

    def cut(self, offset: int) -> None:
        """Continue at ``offset``, after the records in hand: the log lost its tail from there on.

        Positions below the old ``following`` may be of the lost tail, so the new leader epoch is
        noted for later ones only.
        """
        self.noted_from = max(self.following, self.noted_from)
        self.fetched = offset
        self._drop_handed()
        self.epoch = None
        self.is_confirmed = self.is_out_of_range = False
        self.damaged = None

    def ended(self, at: float) -> None:
        """Note that a fetch brought nothing: the log ended at ``fetched`` at this time."""
        self.empty_at = max(self.empty_at, at)
        self.failure = None

    def fail(self, error: Exception, now: float) -> None:
        """Note that a fetch failed."""
        self.is_confirmed = False
        self.failure = Failure(error, self.failure.since if self.failure else now, now)
        self.wake()

    def leave_range(self) -> None:
        """Note that the broker has no offset ``fetched``."""
        self.is_out_of_range = True
        self.is_confirmed = False
        self.wake()

    def enter_range(self, fetched: int) -> None:
        """Continue at ``fetched``, which the log has."""
        if fetched != self.fetched:
            self._drop_handed()
        self.fetched = fetched
        self.is_out_of_range = False

    def close(self) -> None:
        """Drop the answers that are still to come."""
        if not self.is_closed:
            self._held.bytes -= self.bytes
        self.is_closed = True
        self.wake()

    def wake(self) -> None:
        """End the waits for a change."""
        self._changed.set()

    async def change(self, within: float) -> None:
        """Wait until records or an error come, for at most ``within`` seconds."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changed.wait()
