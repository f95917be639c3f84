"""A topic of ours as Kafka has it."""

from __future__ import annotations

from typing import NamedTuple

from aiokafka.structs import TopicPartition

from transport.contract import Topic

__all__ = ["TopicLayout"]


class TopicLayout(NamedTuple):
    """A topic: ours, Kafka's name for it, and how many partitions it has."""

    topic: Topic
    name: str
    partitions: int

    def at(self, partition: int) -> TopicPartition:
        """Return Kafka's name of one partition."""
        return TopicPartition(self.name, partition)

    def all(self) -> list[TopicPartition]:
        """Return every partition."""
        return [self.at(partition) for partition in range(self.partitions)]
