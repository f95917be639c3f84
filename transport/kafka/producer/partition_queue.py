"""The queue of one partition's batches, in the order of the log."""

from __future__ import annotations

import secrets
from collections import deque

from aiokafka.structs import TopicPartition

from transport.kafka.producer.batch import Batch

__all__ = ["SEQUENCES", "PartitionQueue"]

SEQUENCES = 2**31  # sequence numbers have 31 bits, and begin at 0 again after the last


class PartitionQueue:
    """The batch of one partition that is under way, and the batches that wait behind it, in order.

    The last waiting batch takes records until it is sent, so that calls share it. ``stuck`` is the
    batch that was under way for too long, if any. ``refusal`` is why the leader refused the last
    batch for now; it is empty once a batch was acknowledged.

    ``sequence`` is the number of the next record. It begins anywhere: a Kafka that was emptied, or
    restored from a backup, gives the ids of running producers away again. With the id and the
    numbers of another producer, a batch counts as sent twice, and is acknowledged without being
    appended.
    """

    __slots__ = ("in_flight", "partition", "refusal", "sequence", "stuck", "under_way", "waiting")

    def __init__(self, partition: TopicPartition) -> None:
        self.partition = partition
        self.waiting: deque[Batch] = deque()
        self.under_way: Batch | None = None
        self.in_flight = False  # whether ``under_way`` is in a request now; else it waits to retry
        self.stuck: Batch | None = None
        self.refusal = ""
        self.sequence = secrets.randbelow(SEQUENCES)

    def __str__(self) -> str:
        return f"{self.partition.topic}-{self.partition.partition}"

    def next(self) -> Batch | None:
        """Return the batch to send now; it stays the same one until it has ended."""
        while self.under_way is None and self.waiting:
            batch = self.waiting.popleft()
            if not batch.done:  # else it was given up while it waited
                self.under_way = batch
        return self.under_way

    def has_work(self) -> bool:
        """Return whether any batch waits or is under way."""
        return self.under_way is not None or any(not batch.done for batch in self.waiting)
