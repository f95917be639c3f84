"""The context of one group on one topic, shared by the parts that publish and measure it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from transport.kafka.group.groups import Committed, Groups
from transport.kafka.log import TopicLayout
from transport.kafka.loss.identity import TopicDescription
from transport.kafka.loss.leader_epochs import LeaderEpochs
from transport.kafka.loss.losses import TopicLosses
from transport.kafka.loss.mark import Mark
from transport.kafka.loss.tails import Tails
from transport.kafka.loss.topic_ids import TopicIds
from transport.kafka.read_ahead.read_log import ReadLog
from transport.kafka.reader import KafkaReader

__all__ = ["GroupContext"]


@dataclass(frozen=True, kw_only=True)
class GroupContext:
    """A group, its topic, and the state remembered of both."""

    group: str
    source: TopicLayout
    reader: KafkaReader
    groups: Groups
    ids: TopicIds
    """The ids of topics, which show whether the topic was made anew; a client can't tell."""
    losses: TopicLosses
    """The numbers of unread records, which are lost if the topic is deleted."""
    tails: Tails
    """The comparison that shows whether the log lost records."""
    epochs: LeaderEpochs
    reads: ReadLog
    """What this process has read of the log."""

    def marks(
        self,
        topic: TopicDescription,
        committed: Mapping[int, Committed],
        partitions: Iterable[int],
    ) -> dict[int, Mark]:
        """Return the marks of partitions, with the ends that this process has read."""
        self.reads.note_topic(self.source.name, topic.id)
        marks: dict[int, Mark] = {}
        for partition in partitions:
            mark = committed[partition].mark if partition in committed else Mark()
            if mark.topic_id in ("", topic.id):
                seen = self.reads.seen(self.source.at(partition), mark.seen)
                mark = msgspec.structs.replace(mark, topic_id=topic.id, seen=seen)
            marks[partition] = mark
        return marks
