"""Positions that PostgreSQL keeps, published as the committed offsets of a group without members.

Kafka's tools show them as the group's offsets and lag. The mark of a published offset keeps what
the log lost, so that the group's progress counts it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from transport.kafka.group.context import GroupContext
from transport.kafka.group.groups import Committed
from transport.kafka.group.position import group_position
from transport.kafka.loss.identity import TopicDescription
from transport.kafka.loss.mark import Mark, SeenEnd, now_ms

__all__ = ["publish_positions"]


async def publish_positions(context: GroupContext, through: Mapping[int, int]) -> None:
    """Publish positions, by partition: the offsets through which every record is settled.

    Losses are those between the position that was published last and this one. A position in a tail
    that the log lost is not published: its reader has to read what took the place of that tail, and
    until then the mark that shows the loss is kept.

    Raises:
        TransportError: the group has members.
        TransportUnavailable: Kafka can't be asked now, or it is unknown whether it has the
            positions.
    """
    source, reader = context.source, context.reader
    every = {partition: source.at(partition) for partition in through}
    reader.include(list(every.values()))
    topic, committed = await asyncio.gather(
        context.ids.describe(source.name),
        context.groups.committed(context.group, source.name, through),
    )
    where = [at for at in every.values() if at.partition in topic.leaders]
    begins, ends = await asyncio.gather(reader.begins(where), reader.ends(where))
    marks = context.marks(topic, committed, through)
    now = {at.partition: ends[at] for at in where}
    tail_losses = await context.tails.lost(marks, topic, now)
    seen = await _seen(context, topic, now)
    kept = await _kept(context, topic, through, committed)
    published: dict[int, Committed] = {}
    for partition, position in through.items():
        at, before = every[partition], committed.get(partition)
        if partition not in topic.leaders:  # nothing is known of its log now
            mark = before.mark if before is not None else Mark(topic_id=topic.id)
            published[partition] = Committed(position + 1, mark)
            continue
        if partition not in kept:
            continue
        mark = group_position(
            before,
            topic_id=topic.id,
            begin=begins[at],
            end=ends[at],
            lost_before=context.losses.before(partition, topic.id),
            tail_loss=tail_losses.get(partition),
        ).mark
        if removed := context.reads.removed(at, position):
            mark = msgspec.structs.replace(mark, lost=mark.lost + removed, lost_at=now_ms())
        mark = msgspec.structs.replace(mark, seen=seen.get(partition, mark.seen))
        offset = min(position + 1, ends[at])
        context.losses.note(partition, topic.id, unread=ends[at] - offset, lost=mark.lost)
        published[partition] = Committed(offset, mark)
    if published:
        await context.groups.publish(context.group, source.name, published)
    for partition, (_, mark) in published.items():
        if _went_back(through[partition], committed.get(partition)):
            context.reads.confirm(every[partition], through[partition])
        if partition in kept and mark.seen is not None:
            context.reads.forget_removed(every[partition], through[partition])
            context.reads.forget_ends(every[partition], mark.seen.leader)


async def _seen(
    context: GroupContext, topic: TopicDescription, ends: Mapping[int, int]
) -> Mapping[int, SeenEnd]:
    """Return the end of each partition with the leader epoch that it was surely seen under.

    The broker that named the leaders may have missed an election. Then its epoch ends earlier.
    """
    leaders = {partition: topic.leaders[partition].epoch for partition in ends}
    of_epochs = await context.epochs.ends(context.source.name, leaders)
    return {
        partition: SeenEnd(min(end, ends[partition]), leaders[partition])
        for partition, end in of_epochs.items()
    }


async def _kept(
    context: GroupContext,
    topic: TopicDescription,
    through: Mapping[int, int],
    committed: Mapping[int, Committed],
) -> set[int]:
    """Return the partitions whose logs have the records that were read through these positions.

    A position that went back is one of these: only a reader that continues where the log was cut,
    or PostgreSQL, moves a position back.
    """
    kept: set[int] = set()
    doubtful: dict[int, int] = {}
    for partition, position in through.items():
        leader, before = topic.leaders.get(partition), committed.get(partition)
        epoch = context.reads.epoch(context.source.at(partition), position)
        if epoch is None and before is not None and before.mark.topic_id == topic.id:
            epoch = before.mark.seen.leader if before.mark.seen else None
        if leader is None or epoch is None or epoch == leader.epoch or _went_back(position, before):
            kept.add(partition)
        else:
            doubtful[partition] = epoch
    ends = await context.epochs.ends(context.source.name, doubtful)
    return kept | {p for p in doubtful if ends.get(p, -1) > through[p]}


def _went_back(position: int, before: Committed | None) -> bool:
    return before is not None and position + 1 < before.offset
