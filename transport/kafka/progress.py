"""The progress of a group: its published offsets, compared with the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from transport.contract import Progress
from transport.errors import TransportError
from transport.kafka.group.context import GroupContext
from transport.kafka.group.gaps import Gaps, TopicEpoch
from transport.kafka.group.groups import Committed
from transport.kafka.group.position import group_position
from transport.kafka.loss.mark import Mark
from transport.kafka.reader import FirstRecord, KafkaReader

__all__ = ["progress_of"]


async def progress_of(context: GroupContext, gaps: Gaps) -> list[Progress]:
    """Return the group's progress in each partition.

    A partition without a leader can't be asked: only its published offset and mark are known. Of a
    group that can't be asked, only the log is known: Kafka may forbid it, or not have its offsets.

    Raises:
        TransportUnavailable: Kafka can't be asked now.
    """
    source, reader, losses = context.source, context.reader, context.losses
    topic = await context.ids.describe(source.name)
    where = [at for at in source.all() if at.partition in topic.leaders]
    topic_id = topic.id
    # Published offsets first, then ends: otherwise a record that is appended and settled in between
    # would put the offset beyond the end.
    committed, is_known = await _committed(context)
    begins, ends = await asyncio.gather(reader.begins(where), reader.ends(where))
    tail_losses = await context.tails.lost(
        context.marks(topic, committed, range(source.partitions)),
        topic,
        {at.partition: end for at, end in ends.items()},
    )
    positions = {
        at: group_position(
            committed.get(at.partition),
            topic_id=topic_id,
            begin=begins[at],
            end=ends[at],
            lost_before=losses.before(at.partition, topic_id),
            tail_loss=tail_losses.get(at.partition),
        )
        for at in where
    }
    histories = {at: TopicEpoch(topic_id, topic.leaders[at.partition].epoch) for at in where}
    if not is_known:
        return [
            _of_log(at, begins[at], ends[at]) if at in ends else _unavailable(at.partition, None)
            for at in source.all()
        ]
    for at, (start, mark) in positions.items():
        losses.note(at.partition, topic_id, unread=ends[at] - start, lost=mark.lost)
    search = _Search(reader, gaps, histories)
    waiting = await search.waiting({at: positions[at].offset for at in where}, ends)
    now = time.time()
    known = {
        at.partition: Progress(
            partition=at.partition,
            lag=(lag := ends[at] - waiting[at].start),
            oldest_age=max(0.0, now - waiting[at].since) if lag else 0.0,
            floor=_offset_before(waiting[at].start, begins[at], committed.get(at.partition)),
            end=str(ends[at] - 1) if ends[at] else None,
            lost=positions[at].mark.lost,
            lost_at=_lost_at(positions[at].mark),
            appended=ends[at],
            held=waiting[at].held,
            untrimmed=begins[at] == 0,
        )
        for at in where
    }
    return [
        known.get(partition) or _unavailable(partition, committed.get(partition))
        for partition in range(source.partitions)
    ]


async def _committed(context: GroupContext) -> tuple[Mapping[int, Committed], bool]:
    """Return the group's published offsets, and whether they are known."""
    source = context.source
    try:
        found = await context.groups.committed(context.group, source.name, range(source.partitions))
    except TransportError:
        return {}, False
    return found, True


def _of_log(at: TopicPartition, begin: int, end: int) -> Progress:
    """Return what is known of a partition without the group."""
    return Progress(
        at.partition, None, None, None, str(end - 1) if end > begin else None,
        appended=end, untrimmed=begin == 0,
    )  # fmt: skip


def _unavailable(partition: int, committed: Committed | None) -> Progress:
    mark = committed.mark if committed is not None else Mark()
    return Progress(
        partition, None, None, None, None,
        lost=mark.lost, lost_at=_lost_at(mark), unavailable=True,
    )  # fmt: skip


def _lost_at(mark: Mark) -> float | None:
    return mark.lost_at / 1000 if mark.lost_at else None


class _Waiting(NamedTuple):
    """The unsettled part of a partition: its first offset, and that record's append time.

    ``held`` of it can't be read.
    """

    start: int
    since: float
    held: int = 0


class _Search:
    """Looks past offsets without a record, from a group's position on: markers, aborted records.

    Each look is bounded in time, so that an aborted gigabyte in one partition does not delay the
    others. Offsets that the look did not reach count as records until the next one. So do offsets
    without a record between two records: finding them would take reading the whole log.
    """

    def __init__(
        self, reader: KafkaReader, gaps: Gaps, histories: Mapping[TopicPartition, TopicEpoch]
    ) -> None:
        self._reader = reader
        self._gaps = gaps
        self._histories = histories

    async def waiting(
        self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, _Waiting]:
        """Return the first unsettled record of each partition between ``starts`` and ``ends``."""
        begins = {at: self._passed(at, start, ends[at]) for at, start in starts.items()}
        found = {at: _Waiting(begin, 0.0) for at, begin in begins.items()}
        behind = {at: begin for at, begin in begins.items() if begin < ends[at]}
        if not behind:
            return found
        # Asked after the ends, so that a record appended in between does not seem unreadable.
        readable = await self._reader.readable_ends(list(behind))
        stops = {at: min(readable[at], ends[at]) for at in behind}
        first = await self._first(behind, stops, committed=True)
        stuck = {
            at: max(stops[at], begin)
            for at, begin in behind.items()
            if first[at].record is None and first[at].offset >= stops[at] and stops[at] < ends[at]
        }
        held = await self._first(stuck, ends, committed=False)
        for at, look in first.items():
            if look.offset > behind[at] and at in self._histories:
                self._gaps.note(at, behind[at], look.offset, self._histories[at])
            record = look.record or (held[at].record if at in held else None)
            since = record.timestamp / 1000 if record is not None else time.time()
            found[at] = _Waiting(look.offset, since, held=ends[at] - max(stops[at], look.offset))
        return found

    def _passed(self, at: TopicPartition, start: int, end: int) -> int:
        history = self._histories.get(at)
        passed = start if history is None else self._gaps.end(at, start, history)
        return passed if passed <= end else start

    async def _first(
        self,
        starts: Mapping[TopicPartition, int],
        stops: Mapping[TopicPartition, int],
        *,
        committed: bool,
    ) -> Mapping[TopicPartition, FirstRecord]:
        ahead = {at: start for at, start in starts.items() if start < stops[at]}
        looks = {at: FirstRecord(None, start) for at, start in starts.items()}
        if not ahead:
            return looks
        return looks | await self._reader.first_of_each(
            ahead, stops, committed=committed, within=self._reader.look_within
        )


def _offset_before(start: int, begin: int, committed: Committed | None) -> str | None:
    """Return the published position, if there ever was one."""
    if committed is None or start <= 0 or (start == begin and committed.offset != start):
        return None
    return str(start - 1)
