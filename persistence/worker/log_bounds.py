"""Where a log begins and ends, and where to read from if a position is outside of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import structlog

from otel.metrics import Metrics
from persistence.worker.position_metrics import PositionMetrics
from transport.contract import DLQ_GROUP, WORKER_GROUP, Progress, Topic, Transport
from transport.errors import TransportUnavailable

__all__ = ["HeldAfter", "LogBounds", "before_first", "holds_all"]

_log = structlog.get_logger(__name__)

_SHOWN_SECONDS = 1.0
"""All partitions that are taken within this time share one question."""


class HeldAfter(NamedTuple):
    """The offset to read after, and whether records that had no row are gone before it."""

    offset: str
    are_rows_lost: bool = False


class LogBounds:
    """Finds where to read a topic from, for positions that PostgreSQL keeps.

    Args:
        log: The log.
        topic: Its topic.
        metrics: Counts the times that records without a row were gone.
    """

    def __init__(self, log: Transport, topic: Topic, metrics: Metrics) -> None:
        self._log = log
        self._topic = topic
        self._group = WORKER_GROUP if topic is Topic.MESSAGES else DLQ_GROUP
        self._rows_lost = metrics.of(PositionMetrics).rows_lost.labels(log.name)
        self._lost_after: dict[int, str] = {}
        self._asked = float("-inf")
        self._shown: dict[int, str] = {}

    async def held_after(self, partition: int, through: str) -> HeldAfter:
        """Return the offset to read after, for a position in the same log.

        That is the offset before the first record if the log removed records that had no row yet:
        a loss, which is counted and logged once for each position. If the record at ``through`` is
        gone from the log's end, the log lost its end, and what it has appended since may have lower
        offsets. Then it is the position that the log shows, or the offset before the first record
        if that position is gone as well. Rows that are there already are not inserted twice.

        Args:
            partition: The partition.
            through: The position; empty is the beginning.

        Returns:
            ``through`` itself, unless the log's bounds moved past it.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """
        log, topic = self._log, self._topic
        last = await self._last(partition)
        at = log.sort_key(through) if through else b""
        is_short = bool(through) and (not last or log.sort_key(last) < at)
        if is_short or (through and through != last and await self._lacks(partition, through)):
            shown = (await self._progress(partition)).floor or ""
            is_before = not shown or log.sort_key(shown) < at
            if is_before or is_short:
                after = shown if is_before else await before_first(log, topic, partition) or ""
                _log.warning(
                    "The log lost its last records, whose rows are kept: reading what follows",
                    transport=log.name,
                    topic=topic.value,
                    partition=partition,
                    position=through,
                    last=last or "none",
                    reads_after=after or "the beginning",
                )
                return HeldAfter(after)
        if last == through or await holds_all(log, topic, partition, through):
            return HeldAfter(through)
        is_new = self._lost_after.get(partition) != through
        if is_new:
            self._lost_after[partition] = through
            self._rows_lost.inc()
            _log.error(
                "The log no longer holds records without a row: reading from its first record",
                transport=log.name,
                topic=topic.value,
                partition=partition,
                position=through or "the beginning",
                remedy="another log or a backup may have them",
            )
        return HeldAfter(await before_first(log, topic, partition) or last, is_new)

    async def begin(self, partition: int) -> str:
        """Return the position just before the first record; empty if nothing was removed yet.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """
        if await self._log.reaches(self._topic, partition, after=None):
            return ""
        # Before the first record is asked for: a record that comes in between is after it.
        last = await self._last(partition)
        return await before_first(self._log, self._topic, partition) or last

    async def ends_before(self, positions: Mapping[int, str]) -> set[int]:
        """Return the partitions that end before these positions: the log lost their last records.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """
        key = self._log.sort_key
        return {
            progress.partition
            for progress in await self._log.progress(self._topic, group=self._group)
            if (through := positions.get(progress.partition)) and not progress.unavailable
            if progress.end is None or key(progress.end) < key(through)
        }

    async def shown_after(self, partition: int, through: str) -> str:
        """Return the position that the log shows, if records lie between ``through`` and it.

        Positions are shown after they are committed. So PostgreSQL had a later position than
        ``through`` then, unless the position was set by hand.

        Returns:
            The position that was shown in the last second; empty if it is not later.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """
        log, key = self._log, self._log.sort_key
        if time.monotonic() - self._asked > _SHOWN_SECONDS:
            found = await log.progress(self._topic, group=self._group)
            self._shown = {part.partition: part.floor or "" for part in found}
            self._asked = time.monotonic()
        shown = self._shown.get(partition, "")
        if not shown or (through and key(shown) <= key(through)):
            return ""
        following = await log.read(self._topic, partition, after=through or None, limit=1)
        if (following and key(following[0].offset) <= key(shown)) or not await holds_all(
            log, self._topic, partition, through
        ):
            return shown
        return ""  # there are only offsets without a record

    async def _lacks(self, partition: int, offset: str) -> bool:
        """Return whether the log has records before an offset, and none at it."""
        log, topic = self._log, self._topic
        at = await log.read(topic, partition, after=log.offset_before(offset), limit=1)
        if at and at[0].offset == offset:
            return False
        first = await log.read(topic, partition, limit=1)
        return bool(first) and log.sort_key(first[0].offset) < log.sort_key(offset)

    async def _last(self, partition: int) -> str:
        """Return a partition's last offset; empty if it never had a record, as far as it knows."""
        last = await self._log.read_back(self._topic, partition, limit=1)
        return last[0].offset if last else (await self._progress(partition)).end or ""

    async def _progress(self, partition: int) -> Progress:
        for progress in await self._log.progress(self._topic, group=self._group):
            if progress.partition == partition:
                if progress.unavailable:
                    raise TransportUnavailable("no server of the log has the partition now")
                return progress
        return Progress(partition, None, None, None, None)  # one that was added to the log


async def holds_all(log: Transport, topic: Topic, partition: int, through: str) -> bool:
    """Return whether a log holds every record after a position (empty: the beginning)."""
    if await log.reaches(topic, partition, after=through or None):
        return True
    # A log that an earlier release trimmed can't tell. But if ``through`` is just before its first
    # record, nothing is missing.
    return bool(through) and through == await before_first(log, topic, partition)


async def before_first(log: Transport, topic: Topic, partition: int) -> str | None:
    """Return the offset just before the first record that a log holds; ``None`` if it has none."""
    first = await log.read(topic, partition, limit=1)
    return log.offset_before(first[0].offset) if first else None
