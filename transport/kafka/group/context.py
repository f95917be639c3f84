"""One group on one topic: what the parts share that claim, watch and measure it."""

from __future__ import annotations

from dataclasses import dataclass

from transport.kafka.group.groups import Groups
from transport.kafka.log import TopicLayout
from transport.kafka.loss.identity import TopicIds
from transport.kafka.loss.losses import TopicLosses
from transport.kafka.loss.tails import Tails
from transport.kafka.reader import KafkaReader

__all__ = ["GroupContext"]


@dataclass(frozen=True, kw_only=True)
class GroupContext:
    """A group, its topic, and the memory of both. It outlives the clients of the group."""

    group: str
    source: TopicLayout
    reader: KafkaReader
    groups: Groups
    ids: TopicIds
    """Tell whether the topic was made anew, which a client can't."""
    losses: TopicLosses
    """Tell how many records were unread when the topic went."""
    tails: Tails
    """Tell whether the log lost records that it had."""
