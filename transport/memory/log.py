"""The log of ``transport.memory``: a broker's state, in memory."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from uuid import uuid4

from transport.contract import (
    DLQ_GROUP,
    WORKER_GROUP,
    Appended,
    Envelope,
    GroupStanding,
    Holding,
    Outcome,
    Remembered,
    Topic,
)
from transport.memory.partition import MemoryPartition
from transport.message.envelope import HEADER_CORRELATION_ID
from transport.settings import TransportSettings

__all__ = ["MemoryLog"]

_OURS = {(Topic.MESSAGES, WORKER_GROUP), (Topic.DEAD_LETTERS, DLQ_GROUP)}


class MemoryLog:
    """All partitions, published positions and remembered message ids of one log.

    A partition keeps every record after the position of some group, and
    ``STREAM_RETENTION_RECORDS`` before it, or up to twice as many.
    """

    def __init__(self, settings: TransportSettings) -> None:
        self._partitions = settings.stream_partitions
        self.remember_seconds = settings.idempotency_ttl_seconds
        self._retention = settings.stream_retention_records
        self._begin()

    def _begin(self) -> None:
        self.topics = {
            Topic.MESSAGES: [MemoryPartition(Topic.MESSAGES, p) for p in range(self._partitions)],
            Topic.DEAD_LETTERS: [MemoryPartition(Topic.DEAD_LETTERS, 0)],
        }
        self.identity = str(uuid4())
        self._groups: dict[Topic, dict[str, list[int]]] = defaultdict(dict)
        self._known: dict[str, tuple[float, Remembered]] = {}
        for topic, group in _OURS:
            self.publish_positions(topic, {}, group)

    def positions(self, topic: Topic, group: str) -> list[int]:
        """Return the offset after the position of a group for each partition."""
        known = self._groups[topic].get(group)
        return known or [partition.first for partition in self.topics[topic]]

    def publish_positions(self, topic: Topic, through: Mapping[int, int], group: str) -> None:
        """Move a group, forward or back, in the partitions that ``through`` names."""
        positions = self._groups[topic][group] = self.positions(topic, group)
        for number, offset in through.items():
            partition = self.topics[topic][number]
            # The lag counts records that are there.
            positions[number] = min(max(offset + 1, partition.first), partition.end)

    def forget(self, group: str) -> None:
        """Delete a group's positions in both topics."""
        for groups in self._groups.values():
            groups.pop(group, None)

    def groups(self) -> list[GroupStanding]:
        """Return every group."""
        return [
            GroupStanding(
                topic,
                name,
                ours=(topic, name) in _OURS,
                lag=sum(
                    partition.end - position
                    for partition, position in zip(self.topics[topic], positions, strict=True)
                ),
                members=0,
            )
            for topic, groups in self._groups.items()
            for name, positions in groups.items()
        ]

    def remove(self, *, dry_run: bool) -> list[Holding]:
        """Empty the log; return its topics."""
        found = [
            Holding(
                "topic",
                topic.value,
                records=sum(len(partition.records) for partition in partitions),
            )
            for topic, partitions in self.topics.items()
        ]
        if not dry_run:
            self._begin()
        return found

    def known(self, message_id: str) -> Remembered | None:
        """Return the remembered outcome of a message id, if any."""
        expires, remembered = self._known.get(message_id, (0.0, None))
        return remembered if expires > time.monotonic() else None

    def append(self, envelope: Envelope, *, remember: bool) -> Outcome:
        """Append one envelope, unless ``remember`` is set and its message id is remembered."""
        if remember and (first := self.known(envelope.message_id)):
            return first
        partition = self.topics[Topic.MESSAGES][envelope.partition]
        headers = {name: value.encode() for name, value in envelope.headers.items()}
        offset = partition.append(envelope.key, envelope.body, headers)
        if remember:
            correlation_id = envelope.headers.get(HEADER_CORRELATION_ID, "")
            answer = Remembered(offset, envelope.accepted_at, envelope.fingerprint, correlation_id)
            self._known[envelope.message_id] = (
                time.monotonic() + self.remember_seconds,
                answer,
            )
        self._trim(partition)
        return Appended(offset)

    def _trim(self, partition: MemoryPartition) -> None:
        """Drop the oldest records once twice the retention is before every group's position."""
        groups = self._groups[partition.topic].values()
        position = min((positions[partition.number] for positions in groups), default=0)
        if position - partition.first > 2 * self._retention:
            partition.drop(position - self._retention)
            while self._known:  # in order of expiry, since all are kept for the same time
                oldest = next(iter(self._known))
                if self._known[oldest][0] > time.monotonic():
                    break
                del self._known[oldest]
