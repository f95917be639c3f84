"""One partition's batches, in the order in which the log is to have them."""

from __future__ import annotations

from collections import deque

from aiokafka.structs import TopicPartition

from transport.kafka.producer.batch import Batch

__all__ = ["PartitionQueue"]


class PartitionQueue:
    """One partition: the batch that is under way, and those that wait behind it, in order.

    The last one that waits takes records until it is sent, so that calls share it. ``stuck`` is
    what was under way for too long.
    """

    __slots__ = ("in_flight", "partition", "sequence", "stuck", "under_way", "waiting")

    def __init__(self, partition: TopicPartition) -> None:
        self.partition = partition
        self.waiting: deque[Batch] = deque()
        self.under_way: Batch | None = None
        self.in_flight = False  # as part of a request; else what is under way rests
        self.stuck: Batch | None = None
        self.sequence = 0

    def __str__(self) -> str:
        return f"{self.partition.topic}-{self.partition.partition}"

    def next(self) -> Batch | None:
        """Return the batch to send now: the same one until it has ended."""
        while self.under_way is None and self.waiting:
            batch = self.waiting.popleft()
            if not batch.done:  # it did not wait for too long
                self.under_way = batch
        return self.under_way

    def has_work(self) -> bool:
        """Return whether anything waits or is under way."""
        return self.under_way is not None or any(not batch.done for batch in self.waiting)
