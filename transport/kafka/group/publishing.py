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
from transport.kafka.loss.mark import Mark, SeenEnd
from transport.kafka.loss.tails import KnownTail

__all__ = ["publish_positions"]


async def publish_positions(context: GroupContext, through: Mapping[int, int]) -> None:
    """Publish positions, by partition: the offsets through which every record is settled.

    Losses are those between the position that was published last and this one. A position beyond
    the end of a log that lost its tail is published as that end, or the records that it lost would
    be counted again each time.

    Raises:
        TransportError: the group has members.
        TransportUnavailable: Kafka can't be asked now, or it is unknown whether it has the
            positions.
    """
    source, reader = context.source, context.reader
    every = {partition: source.at(partition) for partition in through}
    await reader.include([at for at in every.values() if at.partition >= source.partitions])
    count = max(source.partitions, *(partition + 1 for partition in through))
    topic, committed = await asyncio.gather(
        context.ids.describe(source.name),
        context.groups.committed(context.group, source.name, count),
    )
    where = [at for at in every.values() if at.partition in topic.leaders]
    begins, ends = await asyncio.gather(reader.begins(where), reader.ends(where))
    known = {
        at: KnownTail.by(found.mark, topic.id)
        for at in where
        if (found := committed.get(at.partition)) is not None
    }
    tail_losses = await context.tails.cached_tail_losses(known, topic.leaders)
    published: dict[int, Committed] = {}
    for partition, position in through.items():
        at, before = every[partition], committed.get(partition)
        if partition not in topic.leaders:  # nothing is known of its log now
            mark = before.mark if before is not None else Mark(topic_id=topic.id)
            kept = msgspec.structs.replace(mark, last=None, through=position)
            published[partition] = Committed(position + 1, kept)
            continue
        mark = group_position(
            before,
            topic_id=topic.id,
            begin=begins[at],
            end=ends[at],
            lost_before=context.losses.before(partition, topic.id),
            tail_loss=tail_losses.get(at),
            trust_seen_end=True,
        ).mark
        offset = min(position + 1, ends[at])
        mark = msgspec.structs.replace(
            mark,
            topic_id=topic.id,
            last=None,
            seen=SeenEnd(ends[at], topic.leaders[partition].epoch),
            through=offset - 1,
        )
        context.losses.note(partition, topic.id, unread=ends[at] - offset, lost=mark.lost)
        published[partition] = Committed(offset, mark)
    await context.groups.publish(context.group, source.name, published)
