"""Both partitions of a cell, merged by time, page by page; and where to begin."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from migration_guide.parity.cells import Cell
from migration_guide.parity.facts import Facts, SortKey, accepted_at, facts_of
from transport.contract import WORKER_GROUP, Record, Topic, Transport
from transport.envelope import HEADER_MIRROR_OF
from transport.lookup import record_at
from transport.progress import progress_everywhere
from transport.shadow.homes import counterpart

__all__ = ["NOWHERE", "Beginning", "Merged", "Neighbour", "beginnings"]

NOWHERE = b"\xff" * 17
"""The place at which an empty log begins: after every record that it may have had."""
_PAGE = 500


class Beginning(NamedTuple):
    """Extent of one partition in one log, and the offset after which to read it.

    ``held_from``: complete from this time on. ``read_after`` is the place of ``after``.
    ``untrimmed``: nothing that it was ever given is gone.
    """

    after: str | None
    read_after: bytes
    first_held: bytes
    held_from: float
    untrimmed: bool


class Neighbour(NamedTuple):
    """A record of one of the two partitions that belongs to another cell."""

    side: int
    place: bytes
    appended_at: float


class Merged:
    """The records of both partitions of a cell, the earlier one first.

    Args:
        logs: The primary and the shadow. A ``side`` is an index of this pair.
        cell: The partition of each. What belongs to another cell is a ``Neighbour``.
        after: The offset in each after which to read; ``None``: from its beginning.
        until: Read nothing appended later, in seconds since the epoch.
    """

    def __init__(
        self,
        logs: tuple[Transport, Transport],
        cell: Cell,
        after: tuple[str | None, str | None],
        *,
        until: float = float("inf"),
    ) -> None:
        self._logs = logs
        self._cell = cell
        # Where a partition has one cell, it need not be asked of each record.
        self._has_neighbours = logs[0].partitions != logs[1].partitions
        self._after = list(after)
        self._until = until
        self._pages: list[list[Record]] = [[], []]
        self._ended: list[float | None] = [None, None]
        self._keys: list[SortKey] = [log.sort_key for log in logs]
        self.elsewhere = 0.0
        """Processor seconds that went by on this thread while pages were waited for."""

    def log(self, side: int) -> Transport:
        """Return one of the two."""
        return self._logs[side]

    def again(self) -> None:
        """Look again for what came since the ends were met."""
        self._ended = [None, None]

    def ended(self, side: int) -> float | None:
        """Return the moment at which a log was seen to hold nothing more."""
        return self._ended[side]

    async def first(self, side: int) -> tuple[bytes, float]:
        """Find where a log begins now: the first record's place, and the time it is complete from.

        An empty one begins at ``NOWHERE``.

        Raises:
            TransportUnavailable: the log can't be read.
        """
        moment = time.time()
        first = await _first(self._logs[side], self._cell[side])
        if first is None:
            return NOWHERE, moment
        return self._keys[side](first.offset), first.appended_at

    async def at(self, side: int, offset: str) -> Facts | None:
        """Return the record at exactly ``offset`` of a log, ``None`` where there is none.

        Raises:
            TransportUnavailable: the log can't be read.
        """
        record = await record_at(self._logs[side], Topic.MESSAGES, self._cell[side], offset)
        return None if record is None else self._facts(record, side)

    async def next(self) -> Facts | Neighbour | None:
        """Return the next record, ``None`` when both logs are at their end.

        Raises:
            TransportUnavailable: a log can't be read; nothing is skipped, call again.
        """
        for side in (0, 1):
            if not self._pages[side] and self._ended[side] is None:
                await self._fetch(side)
        primary, shadow = self._pages
        if not primary and not shadow:
            return None
        side = int(not primary or (bool(shadow) and _precedes(shadow[-1], primary[-1])))
        record = self._pages[side].pop()
        if self._has_neighbours and not self._is_ours(record, side):
            return Neighbour(side, self._keys[side](record.offset), record.appended_at)
        return self._facts(record, side)

    def _is_ours(self, record: Record, side: int) -> bool:
        other = 1 - side
        return counterpart(record, self._logs[side], self._logs[other]) == self._cell[other]

    async def _fetch(self, side: int) -> None:
        moment, began = time.time(), time.thread_time()
        try:
            records = await self._logs[side].read(
                Topic.MESSAGES, self._cell[side], after=self._after[side], limit=_PAGE
            )
        finally:
            self.elsewhere += time.thread_time() - began
        wanted = [record for record in records if record.appended_at <= self._until]
        if wanted:
            self._after[side] = wanted[-1].offset
        if not records:
            self._ended[side] = moment
        elif len(wanted) < len(records):
            self._ended[side] = self._until
        wanted.reverse()
        self._pages[side] = wanted

    def _facts(self, record: Record, side: int) -> Facts:
        return facts_of(
            record,
            side,
            other=self._logs[1 - side].name,
            sort_key=self._keys[side],
            other_key=self._keys[1 - side],
        )


def _precedes(record: Record, other: Record) -> bool:
    """Return whether ``record`` is to be read first."""
    if record.appended_at == other.appended_at:
        # Of the same millisecond the original first: its copy can't be older.
        return HEADER_MIRROR_OF in other.headers
    return record.appended_at < other.appended_at


async def beginnings(log: Transport, *, since: float | None) -> Sequence[Beginning]:
    """Find the offsets to begin at in each partition of ``log`` to read from ``since`` on.

    Raises:
        TransportUnavailable: the log can't be read.
    """
    numbers = range(log.partitions)
    firsts = [await _first(log, partition) for partition in numbers]
    progress = await progress_everywhere(log, Topic.MESSAGES, group=WORKER_GROUP)
    # An untrimmed log did not exist before the first message of any partition was accepted. (The
    # message's copy may have come much later.)
    times = [accepted_at(first) for first in firsts if first]
    began = min(times, default=float("inf")) if since is None else since
    found = []
    for first, of in zip(firsts, progress, strict=True):
        known_from = first.appended_at if first else float("inf")
        after = None
        if since is not None and first is not None and first.appended_at < since:
            after = await log.offset_before_time(Topic.MESSAGES, of.partition, since)
        found.append(
            Beginning(
                after,
                log.sort_key(after) if after else b"",
                log.sort_key(first.offset) if first else b"",
                began if of.untrimmed else known_from,
                of.untrimmed,
            )
        )
    return found


async def _first(log: Transport, partition: int) -> Record | None:
    records = await log.read(Topic.MESSAGES, partition, limit=1)
    return records[0] if records else None
