"""The records of a group's partitions, merged by time: each partition is read once, in pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush, heapreplace

from migration_guide.parity.beginning import NOWHERE, first_record
from migration_guide.parity.cells import Cell, CellGroup
from migration_guide.parity.facts import Facts, facts_of
from transport.contract import Record, Remembered, Topic, Transport
from transport.lookup import record_at
from transport.message.envelope import HEADER_MIRROR_OF
from transport.shadow.homes import counterpart

__all__ = ["PAGE", "Merged"]

PAGE = 2000
"""The most records of a page. It has fewer if a log's limit of bytes for one read comes first."""

_Head = tuple[float, bool, int]


class Merged:
    """The records of all partitions of a group, earliest first.

    Args:
        logs: The primary and the shadow. A ``side`` is an index of this pair.
        group: The partitions of each.
        after: For each log, the offsets after which to read, by partition; ``None``: from the
            beginning.
        until: Read nothing appended later, in seconds since the epoch.
    """

    def __init__(
        self,
        logs: tuple[Transport, Transport],
        group: CellGroup,
        after: tuple[Mapping[int, str | None], Mapping[int, str | None]],
        *,
        until: float = float("inf"),
    ) -> None:
        self._logs = logs
        # With equal partition counts, a partition has one cell, and no record's cell has to be
        # found.
        self._has_neighbours = logs[0].partitions != logs[1].partitions
        self._parts = [
            _Part(logs[side], side, partition, after[side][partition], until)
            for side in (0, 1)
            for partition in group[side]
        ]
        self._empty = list(range(len(self._parts)))
        self._heads: list[_Head] = []
        self.elsewhere = 0.0
        """Processor seconds of this thread (other tasks' too) while a page was awaited."""

    def again(self) -> None:
        """Read on past the ends that were met: more may have come since."""
        for number, part in enumerate(self._parts):
            if part.ended is not None:
                part.ended = None
                if not part.page:
                    self._empty.append(number)

    def ended(self, side: int) -> dict[int, float]:
        """Return when each partition of a log was seen to have no more records, if it was."""
        return {
            part.partition: part.ended
            for part in self._parts
            if part.side == side and part.ended is not None
        }

    async def first(self, side: int, partition: int) -> tuple[bytes, float]:
        """Return the place where a partition begins now, and the time from which it is complete.

        An empty partition begins at ``NOWHERE``.

        Raises:
            TransportUnavailable: the log can't be read.
        """
        moment = time.time()
        first = await first_record(self._logs[side], partition)
        if first is None:
            return NOWHERE, moment
        return self._logs[side].sort_key(first.offset), first.appended_at

    async def at(self, side: int, partition: int, offset: str) -> Facts | None:
        """Return the record at exactly ``offset`` of a log, ``None`` where there is none.

        Raises:
            TransportUnavailable: the log can't be read.
        """
        record = await record_at(self._logs[side], Topic.MESSAGES, partition, offset)
        return None if record is None else self._facts(record, side)

    async def recall(self, side: int, ids: Sequence[str]) -> Sequence[Remembered | None]:
        """Return the first append of each message of a log; ``None`` where it is not remembered.

        Raises:
            TransportUnavailable: the log can't be asked.
        """
        log = self._logs[side]
        return await log.recall(ids) if ids and log.features.remembers else [None] * len(ids)

    def place(self, side: int, offset: str) -> bytes:
        """Return the place of an offset of a log."""
        return self._logs[side].sort_key(offset)

    async def next(self) -> tuple[Cell, Facts] | None:
        """Return the next record and its cell, ``None`` when all partitions are at their end.

        Raises:
            TransportUnavailable: a log can't be read; nothing is skipped, call again.
        """
        if self._empty:
            await self._fill()
        if not self._heads:
            return None
        number = self._heads[0][2]
        part = self._parts[number]
        record = part.page.pop()
        if part.page:
            heapreplace(self._heads, _head(part.page[-1], number))
        else:
            heappop(self._heads)
            if part.ended is None:
                self._empty.append(number)
        return self._cell(record, part.side), self._facts(record, part.side)

    async def _fill(self) -> None:
        """Fetch a page for each partition whose page is used up, unless it is at its end.

        If one partition can't be read, the pages of the others are kept.
        """
        began = time.thread_time()
        try:
            first, *others = self._empty
            if others:
                numbers = (first, *others)
                done = await asyncio.gather(*map(self._fetch, numbers), return_exceptions=True)
                for failure in done:
                    if isinstance(failure, BaseException):
                        raise failure
            else:
                await self._fetch(first)
        finally:
            self.elsewhere += time.thread_time() - began

    async def _fetch(self, number: int) -> None:
        part = self._parts[number]
        await part.fetch()
        self._empty.remove(number)
        if part.page:
            heappush(self._heads, _head(part.page[-1], number))

    def _cell(self, record: Record, side: int) -> Cell:
        here, there = record.partition, record.partition
        if self._has_neighbours:
            there = counterpart(record, self._logs[side], self._logs[1 - side])
        return Cell(there, here) if side else Cell(here, there)

    def _facts(self, record: Record, side: int) -> Facts:
        return facts_of(
            record,
            side,
            other=self._logs[1 - side].name,
            sort_key=self._logs[side].sort_key,
            other_key=self._logs[1 - side].sort_key,
        )


class _Part:
    """One partition: its page, last record first, and the moment at which its end was met."""

    def __init__(
        self, log: Transport, side: int, partition: int, after: str | None, until: float
    ) -> None:
        self.side = side
        self.partition = partition
        self.page: list[Record] = []
        self.ended: float | None = None
        self._log = log
        self._after = after
        self._until = until

    async def fetch(self) -> None:
        moment = time.time()
        records = await self._log.read(
            Topic.MESSAGES, self.partition, after=self._after, limit=PAGE
        )
        wanted = [record for record in records if record.appended_at <= self._until]
        if wanted:
            self._after = wanted[-1].offset
        if not records:
            self.ended = moment
        elif len(wanted) < len(records):
            self.ended = self._until
        wanted.reverse()
        self.page = wanted


def _head(record: Record, number: int) -> _Head:
    # Within a millisecond, the original comes first: its copy can't be older.
    return record.appended_at, HEADER_MIRROR_OF in record.headers, number
