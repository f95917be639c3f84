"""Compare two logs once: over a window, or everything that they hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import closing

import msgspec

from migration_guide.parity.beginning import both_beginnings
from migration_guide.parity.cells import groups
from migration_guide.parity.comparison import PRIMARY, Comparison, ParityLimits
from migration_guide.parity.group import GroupComparison
from migration_guide.parity.result import ParityCounts, Sample
from transport.clock import timestamp
from transport.contract import Transport

__all__ = [
    "ParityCheck",
    "PartitionReport",
    "by_partition",
    "check",
    "compared_groups",
    "report_of",
]


class PartitionReport(msgspec.Struct, frozen=True, rename="camel"):
    """Counts of one partition of the primary, summed over its cells.

    ``lag``: originals of the primary whose copies may still come.
    """

    partition: int
    # The JSON of `crossfade migrate parity --json` calls it so.
    totals: ParityCounts = msgspec.field(name="tally")
    repaired: int
    lag: int


class ParityCheck(msgspec.Struct, frozen=True, rename="camel"):
    """Findings of a comparison. Times are RFC 3339; ``since`` is ``None`` for the whole logs.

    ``unfinished`` are the primary's partitions that were not read to their end in the time given.
    """

    primary: str
    shadow: str
    since: str | None
    until: str
    partitions: list[PartitionReport]
    samples: list[Sample]
    last_difference: str | None = None
    unfinished: list[int] = []

    @property
    def totals(self) -> ParityCounts:
        """The sum over the partitions."""
        total = ParityCounts()
        for partition in self.partitions:
            total.merge(partition.totals)
        return total


async def check(
    primary: Transport,
    shadow: Transport,
    *,
    since: float | None = None,
    until: float | None = None,
    mirrored: float | None = None,
    limits: ParityLimits | None = None,
    progress: Callable[[int], None] | None = None,
    within: float | None = None,
) -> ParityCheck:
    """Compare what came to both logs from ``since`` (the beginning) to ``until`` (now).

    Times are seconds since the epoch. Groups are compared one after another, each in constant
    memory: past ``limits.in_memory``, waiting records go to a temporary file.

    Args:
        primary: The log with the originals.
        shadow: The log with their copies.
        since: Judge originals from this time on.
        until: Judge originals up to this time.
        mirrored: The time since which every process copies before it acknowledges, if known.
        limits: How long copies may take, and how much is kept.
        progress: Called every few records with their number.
        within: Seconds after which nothing more is read; what was found until then is returned.

    Raises:
        ConfigurationError: the two can't be compared.
        TransportUnavailable: a log can't be read.
    """
    limits = limits or ParityLimits()
    unfinished = set[int]()
    deadline = None if within is None else asyncio.get_running_loop().time() + within
    started = time.time()
    until = started if until is None else min(until, started)
    reports, samples, last = list[PartitionReport](), list[Sample](), 0.0
    made = await compared_groups(
        primary,
        shadow,
        since=since,
        until=until,
        mirrored=mirrored,
        limits=limits,
    )
    for group in made:
        with closing(group):
            try:
                async with asyncio.timeout_at(deadline):
                    await group.drain(progress=progress)
            except TimeoutError:
                unfinished.update(cell.primary for cell in group.comparisons)
            for comparison in group.comparisons.values():
                reports.append(report_of(comparison))
                samples += comparison.samples
                last = max(last, comparison.last_difference)
    return ParityCheck(
        primary.name,
        shadow.name,
        timestamp(since) if since else None,
        timestamp(until),
        by_partition(reports),
        samples,
        timestamp(last) if last else None,
        sorted(unfinished),
    )


async def compared_groups(
    primary: Transport,
    shadow: Transport,
    *,
    since: float | None,
    limits: ParityLimits,
    until: float = float("inf"),
    mirrored: float | None = None,
) -> list[GroupComparison]:
    """Return the comparisons of two logs, of which nothing is read yet.

    The parameters are those of ``GroupComparison``; ``since`` may be ``None``: as far as the logs
    reach.

    Raises:
        ConfigurationError: the two can't be compared.
        TransportUnavailable: a log can't be read.
    """
    ours, theirs = await both_beginnings(primary, shadow, since=since)
    begins = dict(enumerate(ours)), dict(enumerate(theirs))
    return [
        GroupComparison(
            (primary, shadow),
            group,
            begins,
            limits,
            since=since or 0.0,
            until=until,
            mirrored=mirrored,
        )
        for group in groups(len(ours), len(theirs))
    ]


def report_of(comparison: Comparison) -> PartitionReport:
    """Return a cell's counts as they are now."""
    return PartitionReport(
        comparison.cell.primary,
        comparison.result(),
        comparison.repaired,
        comparison.lag(PRIMARY),
    )


def by_partition(reports: Iterable[PartitionReport]) -> list[PartitionReport]:
    """Sum the reports of cells by the primary's partition."""
    sums: dict[int, PartitionReport] = {}
    for report in reports:
        other = sums.setdefault(report.partition, report)
        if other is not report:
            other.totals.merge(report.totals)
            sums[report.partition] = PartitionReport(
                report.partition,
                other.totals,
                other.repaired + report.repaired,
                other.lag + report.lag,
            )
    return [sums[partition] for partition in sorted(sums)]
