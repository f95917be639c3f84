"""Compare two logs once, over a window or as far as they reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from migration_guide.parity.cells import Cell, cells
from migration_guide.parity.comparison import PRIMARY, SHADOW, Comparison, ParityLimits
from migration_guide.parity.facts import Facts
from migration_guide.parity.reading import Beginning, Merged, Neighbour, beginnings
from migration_guide.parity.result import ParityCounts, Sample
from transport.clock import timestamp
from transport.contract import Transport
from transport.errors import ConfigurationError

__all__ = [
    "ParityCheck",
    "PartitionReport",
    "by_partition",
    "check",
    "comparisons",
    "drain",
    "report_of",
    "starts",
]

# So many records, and then the event loop's other tasks have their turn.
_TURN = 100
# Copies may stand this much before `since` by their own log's clock.
_CLOCKS = 2.0


async def _yield(_worked: float) -> None:
    await asyncio.sleep(0)


class PartitionReport(msgspec.Struct, frozen=True, rename="camel"):
    """Counts of a partition of the primary, and of all that the shadow has beside it.

    ``lag``: originals of the primary whose copies may still come.
    """

    partition: int
    # The JSON of `crossfade migrate parity --json` calls it so.
    totals: ParityCounts = msgspec.field(name="tally")
    repaired: int
    lag: int


class ParityCheck(msgspec.Struct, frozen=True, rename="camel"):
    """Findings of a comparison. Times are RFC 3339; ``since`` is ``None`` for the whole logs."""

    primary: str
    shadow: str
    since: str | None
    until: str
    partitions: list[PartitionReport]
    samples: list[Sample]
    last_difference: str | None = None

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
    progress: Callable[[int, int], None] | None = None,
) -> ParityCheck:
    """Compare what came to both logs from ``since`` (the beginning) to ``until`` (now).

    Times are seconds since the epoch. Cells are compared one after another, each in constant
    memory: past ``limits.in_memory``, waiting records go to a temporary file.

    Args:
        primary: The log with the originals.
        shadow: The log with their copies.
        since: Judge originals from this time on.
        until: Judge originals up to this time.
        mirrored: The time since which every process copies before it acknowledges, if known.
        limits: How long copies may take, and how much is kept.
        progress: Called with a primary's partition and the number of records just read of it.

    Raises:
        ConfigurationError: the two can't be compared.
        TransportUnavailable: a log can't be read.
    """
    limits = limits or ParityLimits()
    started = time.time()
    until = started if until is None else min(until, started)
    reports, samples, last = [], list[Sample](), 0.0
    made = await comparisons(
        primary, shadow, since=since, until=until, mirrored=mirrored, limits=limits
    )
    for comparison, after in made:
        number = comparison.cell.primary
        merged = Merged((primary, shadow), comparison.cell, after, until=until + limits.settle)
        try:
            await drain(
                comparison,
                merged,
                progress=progress and (lambda n, p=number, tell=progress: tell(p, n)),
            )
            reports.append(report_of(comparison))
            samples += comparison.samples
            last = max(last, comparison.last_difference)
        finally:
            comparison.close()
    return ParityCheck(
        primary.name,
        shadow.name,
        timestamp(since) if since else None,
        timestamp(until),
        by_partition(reports),
        samples,
        timestamp(last) if last else None,
    )


async def comparisons(
    primary: Transport,
    shadow: Transport,
    *,
    since: float | None,
    limits: ParityLimits,
    until: float = float("inf"),
    mirrored: float | None = None,
) -> list[tuple[Comparison, tuple[str | None, str | None]]]:
    """Return a comparison for each cell, and after which offsets to read for it.

    The parameters are those of ``Comparison``; ``since`` may be ``None``: as far as the logs reach.

    Raises:
        ConfigurationError: the two can't be compared.
        TransportUnavailable: a log can't be read.
    """
    made = []
    for cell, ours, theirs in await starts(primary, shadow, since=since):
        comparison = Comparison(
            cell,
            limits,
            since=since or 0.0,
            until=until,
            mirrored=mirrored,
            held_from=(ours.held_from, theirs.held_from),
            first_held=(ours.first_held, theirs.first_held),
            read_after=(ours.read_after, theirs.read_after),
        )
        made.append((comparison, (ours.after, theirs.after)))
    return made


async def starts(
    primary: Transport, shadow: Transport, *, since: float | None
) -> list[tuple[Cell, Beginning, Beginning]]:
    """Find where to begin in both logs, by cell.

    ``since`` is in seconds since the epoch; ``None`` for the beginning.

    Raises:
        ConfigurationError: the two can't be compared.
        TransportUnavailable: a log can't be read.
    """
    if primary.name == shadow.name:
        raise ConfigurationError(
            f"{primary.name} can't be compared with itself; set TRANSPORT_SHADOW to another log"
        )
    early = None if since is None else since - _CLOCKS
    ours = await beginnings(primary, since=early)
    theirs = await beginnings(shadow, since=early)
    return [
        (cell, ours[cell.primary], theirs[cell.shadow]) for cell in cells(len(ours), len(theirs))
    ]


async def drain(
    comparison: Comparison,
    merged: Merged,
    *,
    before: float = float("inf"),
    progress: Callable[[int], None] | None = None,
    pause: Callable[[float], Awaitable[None]] = _yield,
) -> int:
    """Read a cell to the ends of both logs, judge what can be judged; return how much was read.

    Args:
        comparison: Gets the records.
        merged: Reads them.
        before: What was appended at this time or later is not judged yet.
        progress: Called every few records with their number.
        pause: Awaited with the processor seconds that they took, so that other tasks have their
            turn. (Not seconds on the clock: on a busy machine those are mostly the others', and
            the comparison would fall behind for ever.)

    Raises:
        TransportUnavailable: a log can't be read. Call again: nothing is skipped.
    """
    read, passed, reported, began = 0, 0, 0, time.thread_time() - merged.elsewhere
    while (facts := await merged.next()) is not None:
        if isinstance(facts, Neighbour):
            comparison.passed(*facts)
            passed += 1
        else:
            orphan = comparison.read(facts)
            if orphan is not None:
                await _look_up_original(comparison, orphan, merged)
            read += 1
        if (read + passed) % _TURN == 0:
            await _judge(comparison, merged, before)
            if progress:
                progress(read - reported)
                reported = read
            await pause(time.thread_time() - merged.elsewhere - began)
            began = time.thread_time() - merged.elsewhere
    for side in (PRIMARY, SHADOW):
        moment = merged.ended(side)
        if moment is not None:
            comparison.at_end(side, moment)
    await _judge(comparison, merged, before)
    if progress:
        progress(read - reported)
    return read


def report_of(comparison: Comparison) -> PartitionReport:
    """Return a cell's counts as they are now."""
    return PartitionReport(
        comparison.cell.primary,
        comparison.result(),
        comparison.repaired,
        comparison.lag(PRIMARY),
    )


def by_partition(reports: Iterable[PartitionReport]) -> list[PartitionReport]:
    """Sum the reports of cells, which are in order, by the primary's partition."""
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
    return list(sums.values())


async def _look_up_original(comparison: Comparison, facts: Facts, merged: Merged) -> None:
    assert facts.mirror is not None
    home = 1 - facts.side
    original = await merged.at(home, facts.mirror)
    if original is None:
        await _look_at_beginning(comparison, merged, home)
    comparison.answered(facts, original)


async def _judge(comparison: Comparison, merged: Merged, before: float) -> None:
    for side in comparison.doubted(before):
        await _look_at_beginning(comparison, merged, side)
    comparison.judge(before)


async def _look_at_beginning(comparison: Comparison, merged: Merged, side: int) -> None:
    """Ask after what was read, so that nothing trimmed before it was read is taken for missing."""
    comparison.begins_at(side, *await merged.first(side))
