"""The progress of a group: its committed offsets, compared with the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from transport.contract import Progress
from transport.kafka.delivery.claim import KafkaClaim
from transport.kafka.group.context import GroupContext
from transport.kafka.group.gaps import Gaps, TopicEpoch
from transport.kafka.group.groups import Committed
from transport.kafka.group.position import group_position
from transport.kafka.loss.mark import Mark
from transport.kafka.loss.tails import KnownTail
from transport.kafka.reader import FirstRecord, KafkaReader

__all__ = ["progress_of"]


async def progress_of(
    context: GroupContext, *, gaps: Gaps, ours: Mapping[int, KafkaClaim]
) -> list[Progress]:
    """Return the group's progress in each partition. ``ours`` are this process's own claims.

    A partition without a leader can't be asked: only its committed offset and mark are known.

    Raises:
        TransportUnavailable: Kafka can't say now.
    """
    source, reader, losses = context.source, context.reader, context.losses
    topic = await context.ids.describe(source.name)
    where = [at for at in source.all() if at.partition in topic.leaders]
    topic_id = topic.id
    # Committed offsets first, then ends: otherwise a record that is appended and acknowledged in
    # between would put the committed offset beyond the end.
    committed = await context.groups.committed(context.group, source.name, source.partitions)
    begins, ends, owners = await asyncio.gather(
        reader.begins(where), reader.ends(where), context.groups.owners(context.group, source.name)
    )
    # If the log lost its tail, the committed offset may mean another record, until the next claim.
    remembered = {
        at: KnownTail.by(found.mark, topic_id)
        for at in where
        if (found := committed.get(at.partition)) is not None
    }
    tail_losses = await context.tails.cached_tail_losses(remembered, topic.leaders)
    stands = {
        at: group_position(
            committed.get(at.partition),
            topic_id=topic_id,
            begin=begins[at],
            end=ends[at],
            lost_before=losses.before(at.partition, topic_id),
            tail_loss=tail_losses.get(at),
            trust_seen_end=True,
        )
        for at in where
    }
    for at, (start, mark) in stands.items():
        losses.note(at.partition, topic_id, unread=ends[at] - start, lost=mark.lost)
    histories = {at: TopicEpoch(topic_id, topic.leaders[at.partition].epoch) for at in where}
    search = _Search(reader, gaps, histories)
    waiting = await search.waiting({at: stands[at].offset for at in where}, ends)
    now = time.time()
    told = {
        at.partition: Progress(
            partition=at.partition,
            lag=(lag := ends[at] - waiting[at].start),
            pending=_pending(ours.get(at.partition), lag),
            oldest_age=max(0.0, now - waiting[at].since) if lag else 0.0,
            floor=(
                floor := _offset_before(waiting[at].start, begins[at], committed.get(at.partition))
            ),
            end=str(ends[at] - 1) if ends[at] > begins[at] else None,
            owner=owners.get(at.partition),
            lost=stands[at].mark.lost,
            lost_at=_lost_at(stands[at].mark),
            appended=ends[at],
            held=waiting[at].held,
            untrimmed=begins[at] == 0,
            acknowledged=_last_record(stands[at].mark, floor),
        )
        for at in where
    }
    return [
        told.get(partition) or _unavailable(partition, committed.get(partition), owners)
        for partition in range(source.partitions)
    ]


def _unavailable(
    partition: int, committed: Committed | None, owners: Mapping[int, str]
) -> Progress:
    mark = committed.mark if committed is not None else Mark()
    return Progress(
        partition, None, None, None, None, None,
        owner=owners.get(partition), lost=mark.lost, lost_at=_lost_at(mark), unavailable=True,
    )  # fmt: skip


def _lost_at(mark: Mark) -> float | None:
    return mark.lost_at / 1000 if mark.lost_at else None


class _Waiting(NamedTuple):
    """The unacknowledged part of a partition: its first offset, and that record's append time.

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
        """Return the first unread record of each partition between ``starts`` and ``ends``."""
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


def _pending(claim: KafkaClaim | None, lag: int) -> int | None:
    """Return the number of delivered records; ``None`` for a claim of another process.

    Kafka keeps no such count, so it is known only for our own claims.
    """
    if lag == 0:
        return 0
    return claim.window.delivered if claim is not None else None


def _offset_before(start: int, begin: int, committed: Committed | None) -> str | None:
    """Return the last acknowledged offset, if any was ever acknowledged."""
    if committed is None or start <= 0 or (start == begin and committed.offset != start):
        return None
    return str(start - 1)


def _last_record(mark: Mark, floor: str | None) -> str | None:
    """Return the offset of the last acknowledged record; empty if the commit does not name it.

    The commit does not if an operator moved the group, or a release without such marks worked on
    it. Then our workers may not have stored the records before the group's offset. Of a published
    position it is the position itself, whether there is a record or not.
    """
    if mark.through is not None:
        return str(mark.through) if mark.through >= 0 else None
    if mark.last is not None:
        return str(mark.last.at)
    return None if floor is None else ""
