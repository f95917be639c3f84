"""The layout of one of our topics: its name in Kafka and its partitions."""

from __future__ import annotations

from typing import NamedTuple

from aiokafka.structs import TopicPartition

from transport.contract import Topic

__all__ = ["TopicLayout"]


class TopicLayout(NamedTuple):
    """One of our topics, its name in Kafka, and its number of partitions."""

    topic: Topic
    name: str
    partitions: int

    def at(self, partition: int) -> TopicPartition:
        """Return one partition, as aiokafka names it."""
        return TopicPartition(self.name, partition)

    def all(self) -> list[TopicPartition]:
        """Return every partition."""
        return [self.at(partition) for partition in range(self.partitions)]
