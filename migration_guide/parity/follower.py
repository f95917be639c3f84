"""Compare two logs as they grow: round after round, each to the ends of both logs."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator

from migration_guide.parity.check import (
    ParityCheck,
    PartitionReport,
    by_partition,
    compared_groups,
    report_of,
)
from migration_guide.parity.comparison import Comparison, ParityLimits
from migration_guide.parity.group import GroupComparison
from migration_guide.parity.log_look import LogLook
from migration_guide.parity.result import ParityResult, Sample
from transport.clock import timestamp
from transport.contract import Transport

__all__ = ["Follower"]

_SAMPLES = 100


class Follower:
    """Compares two logs as they grow. ``start`` it, call ``round`` again and again, ``close`` it.

    Args:
        primary: The log with the originals.
        shadow: The log with their copies.
        since: Judge originals from this time on, in seconds since the epoch; ``None``: all.
        limits: How long copies may take, and how much is kept.
        share: The part of one processor (0 to 1) to use at most while it catches up.
        found: Called with each result and its number.
    """

    def __init__(
        self,
        primary: Transport,
        shadow: Transport,
        *,
        since: float | None = None,
        limits: ParityLimits | None = None,
        share: float = 1.0,
        found: Callable[[ParityResult, int], None] | None = None,
    ) -> None:
        self._logs = (primary, shadow)
        self._since = since
        self._limits = limits or ParityLimits()
        self._share = share
        self._found = found
        self._groups: list[GroupComparison] = []
        self._looked: LogLook | None = None
        self._judged = since or 0.0

    async def start(self) -> None:
        """Find where to begin.

        Raises:
            ConfigurationError: the two can't be compared.
            TransportUnavailable: a log can't be read.
        """
        self._groups = await compared_groups(*self._logs, since=self._since, limits=self._limits)
        for comparison in self._comparisons():
            comparison.found = self._found

    def mirrored(self, since: float | None) -> None:
        """Set the time since which every process copies before it acknowledges, if known."""
        for comparison in self._comparisons():
            comparison.mirrored = since

    def close(self) -> None:
        """Close the temporary files."""
        for group in self._groups:
            group.close()

    async def round(
        self, progress: Callable[[int], None] | None = None, *, look: LogLook | None = None
    ) -> int:
        """Read the records since the last round, judge them, and return their number.

        With a ``look`` at the logs, taken just before, groups that have not grown are not read.

        Raises:
            TransportUnavailable: a log can't be read. The next round goes on where this one ended.
        """
        # Logs have times in milliseconds. With a finer bound, a record of that millisecond could be
        # counted on both sides of it.
        now, read = look.moment if look else time.time(), 0
        before = math.floor((now - self._limits.settle) * 1000) / 1000
        for group in self._groups:
            if look and group.is_drained and self._is_still(look, group):
                await group.stand_still(look.moment, before=before)
            else:
                read += await group.drain(before=before, pause=self._pause, progress=progress)
        self._looked = look
        self._judged = before
        return read

    @property
    def judged_until(self) -> float:
        """The time before which every original has been judged; none from it on has."""
        return max(self._judged, self._since or 0.0)

    @property
    def since(self) -> float | None:
        """The time from which originals are judged; ``None``: all that the logs hold."""
        return self._since

    def samples(self) -> list[Sample]:
        """Return and forget the samples found since the last call."""
        found: list[Sample] = []
        for comparison in self._comparisons():
            found += comparison.take_samples()
        return found[:_SAMPLES]

    def lag(self) -> list[int]:
        """Return, by partition, how many originals of the primary have no copy so far."""
        return [report.lag for report in self._partitions()]

    @property
    def last_difference(self) -> float:
        """Time of append of the last message in which the logs differ; 0 if in none."""
        return max((comparison.last_difference for comparison in self._comparisons()), default=0.0)

    def report(self) -> ParityCheck:
        """Return everything found so far."""
        last = self.last_difference
        return ParityCheck(
            self._logs[0].name,
            self._logs[1].name,
            timestamp(self._since) if self._since else None,
            timestamp(time.time()),
            self._partitions(),
            [sample for comparison in self._comparisons() for sample in comparison.samples],
            timestamp(last) if last else None,
        )

    def _partitions(self) -> list[PartitionReport]:
        return by_partition(report_of(comparison) for comparison in self._comparisons())

    def _comparisons(self) -> Iterator[Comparison]:
        for group in self._groups:
            yield from group.comparisons.values()

    def _is_still(self, look: LogLook, group: GroupComparison) -> bool:
        """Return whether a drained group has had no new record since the look before its drain."""
        return self._looked is not None and look.is_still(self._looked, group.group)

    async def _pause(self, worked: float) -> None:
        await asyncio.sleep(worked * (1 / self._share - 1))
