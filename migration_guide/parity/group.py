"""The comparison of one group of cells: its partitions are read once, for all of its cells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

from migration_guide.parity.beginning import Beginning
from migration_guide.parity.cells import Cell, CellGroup
from migration_guide.parity.comparison import PRIMARY, SHADOW, Comparison, ParityLimits
from migration_guide.parity.extent import Extent
from migration_guide.parity.facts import Facts, Mode
from migration_guide.parity.reading import Merged
from transport.contract import Transport

__all__ = ["GroupComparison"]

_SLICE = 0.001
"""Processor seconds after which the event loop's other tasks have their turn. A request that comes
meanwhile waits so long."""
_STEP = 10
"""Records between two looks at the time."""
_TURN = 100
"""Records between two reports of progress, and for each cell between two judgements."""


def _is_uuid(text: str) -> bool:
    """Return whether a log can have remembered an id; another program's may be any text."""
    try:
        UUID(text.partition("/")[0])
    except ValueError:
        return False
    return True


async def _yield(_worked: float) -> None:
    await asyncio.sleep(0)


class GroupComparison:
    """The comparisons of a group's cells. ``close`` it.

    Times are in seconds since the epoch.

    Args:
        logs: The primary and the shadow.
        group: The partitions of both.
        begins: Where to begin in both, by partition.
        limits: How long copies may take, and how much is kept, for each cell.
        since: Originals that were appended earlier are not judged.
        until: Originals that were appended later are not judged. Reading goes on for
            ``limits.settle`` seconds more, for the copies of the others.
        mirrored: The time since which every process copies before it acknowledges, if known.
        looks_up: Whether to judge copies whose original was paired already, or is gone. Each of
            them takes a look-up in the other log.
    """

    def __init__(
        self,
        logs: tuple[Transport, Transport],
        group: CellGroup,
        begins: tuple[Mapping[int, Beginning], Mapping[int, Beginning]],
        limits: ParityLimits,
        *,
        since: float = 0.0,
        until: float = float("inf"),
        mirrored: float | None = None,
        looks_up: bool = True,
    ) -> None:
        self.group = group
        primary, shadow = (
            {number: Extent(begins[side][number], since) for number in group[side]}
            for side in (PRIMARY, SHADOW)
        )
        self.extents = (primary, shadow)
        self.comparisons: dict[Cell, Comparison] = {
            cell: Comparison(
                cell,
                (primary[cell.primary], shadow[cell.shadow]),
                limits,
                since=since,
                until=until,
                mirrored=mirrored,
            )
            for cell in group.cells()
        }
        after = tuple({p: begins[side][p].after for p in group[side]} for side in (PRIMARY, SHADOW))
        self._merged = Merged(
            logs, group, (after[PRIMARY], after[SHADOW]), until=until + limits.settle
        )
        self._looks_up = looks_up
        self.is_drained = False
        """Whether the last drain came to the ends of both logs."""
        self._orphan: tuple[Comparison, Facts] | None = None

    def close(self) -> None:
        """Close the temporary files."""
        for comparison in self.comparisons.values():
            comparison.close()

    def of(self, partition: int) -> list[Comparison]:
        """Return the comparisons of a partition of the primary."""
        return [c for cell, c in self.comparisons.items() if cell.primary == partition]

    async def drain(
        self,
        *,
        before: float = float("inf"),
        progress: Callable[[int], None] | None = None,
        pause: Callable[[float], Awaitable[None]] = _yield,
    ) -> int:
        """Read to the ends of both logs, judge what can be judged; return the number of records.

        Args:
            before: Records appended at this time or later are not judged yet.
            progress: Called every few records with their number.
            pause: Awaited with the processor seconds of each slice, so that other tasks have their
                turn. (Seconds on the clock won't do: on a busy machine most of them are other
                processes', and the comparison would fall behind for ever.)

        Raises:
            TransportUnavailable: a log can't be read. Call again: nothing is skipped.
        """
        merged = self._merged
        if self.is_drained:
            merged.again()
            self.is_drained = False
        judging = _TURN * len(self.comparisons)
        read, reported, began = 0, 0, time.thread_time() - merged.elsewhere
        await self._look_up_original()
        while (found := await merged.next()) is not None:
            cell, facts = found
            comparison = self.comparisons[cell]
            if comparison.read(facts) is not None and self._looks_up:
                self._orphan = comparison, facts
                await self._look_up_original()
            read += 1
            if read % judging == 0:
                await self._judge(before)
            if progress and read % _TURN == 0:
                progress(read - reported)
                reported = read
            if read % _STEP == 0:
                began = await self._give_way(began, pause)
        for side in (PRIMARY, SHADOW):
            for partition, moment in merged.ended(side).items():
                self.extents[side][partition].at_end(moment)
        await self._judge(before)
        self.is_drained = True
        if progress:
            progress(read - reported)
        return read

    async def _give_way(self, began: float, pause: Callable[[float], Awaitable[None]]) -> float:
        """Pause if the slice that began at ``began`` is over; return when the current one began."""
        worked = time.thread_time() - self._merged.elsewhere - began
        if worked < _SLICE:
            return began
        await pause(worked)
        return time.thread_time() - self._merged.elsewhere

    async def stand_still(self, moment: float, *, before: float) -> None:
        """Judge what can be judged; both logs had no unread record at ``moment``.

        Raises:
            TransportUnavailable: a log can't be read. Call again, or drain.
        """
        for side in (PRIMARY, SHADOW):
            for extent in self.extents[side].values():
                extent.at_end(moment)
        await self._judge(before)

    async def _look_up_original(self) -> None:
        """Judge the copy whose original does not wait. It is kept until the look-up succeeds."""
        if self._orphan is None:
            return
        comparison, facts = self._orphan
        assert facts.mirror is not None
        home = 1 - facts.side
        original = await self._merged.at(home, comparison.cell[home], facts.mirror)
        if original is None:
            await self._look_at_beginning(comparison, home)
        comparison.answered(facts, original)
        self._orphan = None

    async def _judge(self, before: float) -> None:
        for comparison in self.comparisons.values():
            for side in (PRIMARY, SHADOW):
                while ripe := comparison.ripe(side, before):
                    await self._look_at_beginning(comparison, 1 - side)
                    await self._recall(comparison, ripe, 1 - side)
                    comparison.judge(ripe)

    async def _recall(self, comparison: Comparison, ripe: Sequence[Facts], other: int) -> None:
        """Set ``known`` of the originals whose message the other log has from before.

        A repeat of an old message is one more record in a log that remembers nothing (Kafka), and
        none in one that remembers its appends (Redis).
        """
        partition = comparison.cell[other]
        extent = self.extents[other][partition]
        lacking = [
            facts
            for facts in ripe
            if facts.mode is Mode.ORIGINAL
            and facts.known is None
            and facts.appended_at >= extent.held_from
            and _is_uuid(facts.name)
        ]
        memory = await self._merged.recall(other, [facts.name for facts in lacking])
        for facts, first in zip(lacking, memory, strict=True):
            if first is None:
                continue
            held = await self._merged.at(other, partition, first.offset)
            if held is None:
                is_another = self._merged.place(other, first.offset) < extent.first_held
            else:
                is_another = held.identity == facts.identity and held.mirror != facts.offset
            if is_another:
                facts.known = first.fingerprint.encode()

    async def _look_at_beginning(self, comparison: Comparison, side: int) -> None:
        """Look up where a log begins now: a record trimmed meanwhile must not count as missing."""
        partition = comparison.cell[side]
        self.extents[side][partition].begins_at(*await self._merged.first(side, partition))
