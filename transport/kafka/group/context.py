"""The context of one group on one topic, shared by the parts that claim, watch and measure it."""

from __future__ import annotations

from dataclasses import dataclass

from transport.kafka.group.groups import Groups
from transport.kafka.log import TopicLayout
from transport.kafka.loss.losses import TopicLosses
from transport.kafka.loss.tails import Tails
from transport.kafka.loss.topic_ids import TopicIds
from transport.kafka.reader import KafkaReader

__all__ = ["GroupContext"]


@dataclass(frozen=True, kw_only=True)
class GroupContext:
    """A group, its topic, and the state remembered of both. It outlives the group's clients."""

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
