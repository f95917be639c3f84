"""The comparison of one backfill, kept over its rounds.

Each round reads on from where the last one ended. A missing record waits in the comparison until it
has certainly been appended. So neither another round nor an outage reads the logs anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from operator import attrgetter
from typing import NamedTuple, Self

import msgspec

from migration_guide.backfill.equal import EqualPlace, KnownEqual
from migration_guide.parity.beginning import NOWHERE, Beginning, both_beginnings
from migration_guide.parity.cells import groups
from migration_guide.parity.comparison import PRIMARY, Comparison, ParityLimits
from migration_guide.parity.facts import Facts
from migration_guide.parity.group import GroupComparison
from migration_guide.parity.result import ParityResult
from transport.contract import WORKER_GROUP, Progress, Topic, Transport
from transport.progress import progress_everywhere

__all__ = ["MissingCopy", "RunningComparison"]

_AT_ONCE = 4
"""How many groups are read at once. While one waits for a log, another is compared."""

_LOOK_RECORDS = 5_000
"""After this many records, check for a place before which both logs are equal."""

_IN_MEMORY = 40_000
"""How many records may wait in memory, over all cells."""

_place = attrgetter("facts.place")


class MissingCopy(NamedTuple):
    """An original whose copy is missing. Call its methods once it has been yielded."""

    facts: Facts
    comparison: Comparison

    def let_go(self) -> None:
        """Stop waiting for the copy: it was appended, or is left out on purpose."""
        self.comparison.let_go(self.facts)

    def refuse(self) -> None:
        """Don't yield it again: it can't be copied. No place from it on becomes settled."""
        self.facts.refused = True
        self.comparison.keep(self.facts)


class RunningComparison:
    """Finds the records of ``source`` that ``target`` lacks. ``begin`` makes one; ``close`` it.

    An original that is older than all records of the target may have been trimmed there. It counts
    as missing if it may be unsettled in the source, if the target never trimmed a
    record, or if ``everything`` is asked for. Otherwise it is left out, and counted in
    ``uncopied``.

    ``whole``: whether both logs are compared from their beginning, by this run or by earlier ones.
    """

    def __init__(
        self,
        logs: tuple[Transport, Transport],
        made: Sequence[tuple[GroupComparison, EqualPlace]],
        floors: Sequence[bytes],
        *,
        settled: Callable[[], Awaitable[Mapping[int, str]]],
        losses: int,
        settle: float,
        everything: bool,
        whole: bool,
    ) -> None:
        self._logs = logs
        self._groups = made
        self._of = {p: group for group, _ in made for p in group.group.primary}
        self._begins_at = floors
        self._losses = losses
        self._settle = settle
        self._everything = everything
        self._positions = settled
        self._settled: Mapping[int, bytes] = {}
        self._untrimmed = [False] * logs[1].partitions
        self.whole = whole
        self.uncopied = 0
        self._young: dict[int, bytes | None] = {}

    @classmethod
    async def begin(
        cls,
        source: Transport,
        target: Transport,
        *,
        since: float | None,
        limits: ParityLimits,
        everything: bool,
        settled: Callable[[], Awaitable[Mapping[int, str]]],
        earlier: Callable[[str], Awaitable[KnownEqual | None]],
    ) -> Self:
        """Find where to begin, and return the comparison.

        Args:
            source: The log to copy from.
            target: The log to copy into.
            since: Look at originals from this time on, in seconds since the epoch; ``None``: at
                all.
            limits: Limits of the comparison.
            everything: Originals that the target may have trimmed are missing, too.
            settled: Returns PostgreSQL's positions in the source, by partition.
            earlier: Given what identifies both logs, returns the place through which they are known
                to be equal, if any.

        Raises:
            ConfigurationError: the two can't be compared.
            TransportUnavailable: a log can't be read.
        """
        logs = (source, target)
        losses = _lost(await _progress(logs))
        ours, theirs = await both_beginnings(source, target, since=since)
        begins = dict(enumerate(ours)), dict(enumerate(theirs))
        made = groups(source.partitions, target.partitions)
        cells = sum(len(group.cells()) for group in made)
        limits = msgspec.structs.replace(
            limits, in_memory=min(limits.in_memory, max(1, _IN_MEMORY // cells))
        )
        nothing = KnownEqual(await _told_apart(logs, losses))
        known = await earlier(nothing.logs) or nothing
        compared = []
        for group in made:
            part = known.part(group)
            if not await part.stands(logs):
                part = nothing
            comparison = GroupComparison(
                logs, group, part.beginnings(logs, begins), limits, since=since or 0.0,
                looks_up=False,
            )  # fmt: skip
            compared.append((comparison, EqualPlace(comparison, part)))
        return cls(
            logs,
            compared,
            [_examined_from(begin) for begin in ours],
            settled=settled,
            losses=losses,
            settle=limits.settle,
            everything=everything,
            whole=since is None,
        )

    def close(self) -> None:
        """Close the temporary files."""
        for group, _ in self._groups:
            group.close()

    async def read_on(self, examined: Callable[[int], None]) -> bool:
        """Read to the ends of both logs; return false if they lost records meanwhile.

        Records that were read may then be gone, and other records may have their offsets: make a
        new comparison.

        Args:
            examined: Called every few records with their number.

        Raises:
            ExceptionGroup: of TransportUnavailable: a log can't be read. Call again: nothing is
                skipped.
            Outage: PostgreSQL can't say what is settled. Call again.
        """
        until = time.time() - self._settle
        turns = asyncio.Semaphore(_AT_ONCE)

        async def drain(group: GroupComparison, place: EqualPlace) -> None:
            unseen = 0

            def looked(records: int) -> None:
                nonlocal unseen
                unseen += records
                if unseen >= _LOOK_RECORDS:  # a look reads every record that waits in memory
                    place.look()
                    unseen = 0
                examined(records)

            async with turns:
                await group.drain(before=until, progress=looked)
                place.look()

        async with asyncio.TaskGroup() as tasks:
            for group, place in self._groups:
                tasks.create_task(drain(group, place))
        source, target = await _progress(self._logs)
        if _lost((source, target)) != self._losses:
            return False
        key = self._logs[0].sort_key
        self._settled = {
            partition: key(through)
            for partition, through in (await self._positions()).items()
            if through
        }
        self._untrimmed = [part.untrimmed for part in target]
        self._young = {
            partition: _first_young(group.of(partition)) for partition, group in self._of.items()
        }
        return True

    def missing(self, partition: int) -> Iterator[MissingCopy]:
        """Yield the originals of a partition that the target lacks, in the order of their log."""
        cells = self._of[partition].of(partition)
        for copy in merge(*map(_missing_in, cells), key=_place):
            if copy.facts.refused:
                continue
            if self._is_wanted(copy):
                yield copy
            else:
                self.uncopied += 1
                copy.let_go()

    def _is_wanted(self, copy: MissingCopy) -> bool:
        cell, facts = copy.comparison.cell, copy.facts
        return (
            facts.judged is ParityResult.MISSING_IN_SHADOW
            or self._everything
            or self._untrimmed[cell.shadow]
            or facts.place > self._settled.get(cell.primary, b"")
        )

    def settled(self) -> KnownEqual:
        """Return the place through which the logs are now known to be equal."""
        known = KnownEqual(self._groups[0][1].known.logs)
        for _, place in self._groups:
            place.settle()
            known = known.joined(place.known)
        return known

    def is_equal(self, partition: int, first: str, last: str) -> bool:
        """Return whether each original between two offsets that were read was compared and judged.

        No clock is asked: one that is too young to be judged waits, by whichever clock.
        """
        key, young = self._logs[0].sort_key, self._young.get(partition)
        compared = self._compared_from(partition) <= key(first)
        return compared and (young is None or key(last) < young)

    def _compared_from(self, partition: int) -> bytes:
        """Return the place from which on the source was compared, now or by earlier runs."""
        for _, place in self._groups:
            if began := place.known.began.get(partition):
                return self._logs[0].sort_key(began)
        return self._begins_at[partition]


def _missing_in(cell: Comparison) -> Iterator[MissingCopy]:
    for facts in cell.judged(PRIMARY):
        yield MissingCopy(facts, cell)


def _first_young(cells: Iterable[Comparison]) -> bytes | None:
    places = (cell.first_young(PRIMARY) for cell in cells)
    return min((place for place in places if place is not None), default=None)


def _examined_from(begin: Beginning) -> bytes:
    return max(begin.first_held, begin.read_after) or NOWHERE


async def _progress(logs: tuple[Transport, Transport]) -> tuple[Sequence[Progress], ...]:
    return tuple(
        [await progress_everywhere(log, Topic.MESSAGES, group=WORKER_GROUP) for log in logs]
    )


def _lost(progress: Iterable[Sequence[Progress]]) -> int:
    return sum(part.lost for log in progress for part in log)


async def _told_apart(logs: tuple[Transport, Transport], losses: int) -> str:
    identities = [await log.identity() for log in logs]
    return " ".join((*identities, str(losses)))
