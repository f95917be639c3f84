"""The log of ``transport.memory``: a broker's state, in memory."""

from __future__ import annotations

import time
from collections import defaultdict
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
from transport.errors import TransportError
from transport.memory.group import MemoryGroup
from transport.memory.partition import MemoryPartition
from transport.message.envelope import HEADER_CORRELATION_ID
from transport.settings import TransportSettings

__all__ = ["MemoryLog"]

_OURS = {(Topic.MESSAGES, WORKER_GROUP), (Topic.DEAD_LETTERS, DLQ_GROUP)}


class MemoryLog:
    """All partitions, groups and remembered message ids of one log.

    A partition keeps every unacknowledged record, and ``STREAM_RETENTION_RECORDS`` acknowledged
    ones, or up to twice as many.
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
        self._groups: dict[Topic, dict[str, MemoryGroup]] = defaultdict(dict)
        self._known: dict[str, tuple[float, Remembered]] = {}
        self.group(Topic.MESSAGES, WORKER_GROUP)
        self.group(Topic.DEAD_LETTERS, DLQ_GROUP)

    def group(self, topic: Topic, name: str) -> MemoryGroup:
        """Return a group; a new one begins at the beginning of the log."""
        groups = self._groups[topic]
        if name not in groups:
            groups[name] = MemoryGroup(self.topics[topic])
        return groups[name]

    def forget(self, name: str) -> None:
        """Delete a group. Raises ``TransportError`` if it has members."""
        groups = [groups for groups in self._groups.values() if name in groups]
        if any(topic[name].members for topic in groups):
            raise TransportError(f"group {name} has members: stop them first")
        for topic in groups:
            del topic[name]

    def groups(self) -> list[GroupStanding]:
        """Return every group."""
        return [
            GroupStanding(
                topic,
                name,
                ours=(topic, name) in _OURS,
                lag=sum(
                    partition.end - acked
                    for partition, acked in zip(group.partitions, group.acked, strict=True)
                ),
                members=len(group.members),
            )
            for topic, groups in self._groups.items()
            for name, group in groups.items()
        ]

    def remove(self, *, dry_run: bool) -> list[Holding]:
        """Empty the log; return its topics. Raises ``TransportError`` if a group has members."""
        found = [
            Holding(
                "topic",
                topic.value,
                records=sum(len(partition.records) for partition in partitions),
            )
            for topic, partitions in self.topics.items()
        ]
        for standing in () if dry_run else self.groups():
            if standing.members:
                raise TransportError(f"group {standing.group} has members: stop them first")
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
        """Drop the oldest records once twice the retention is acknowledged by every group."""
        groups = self._groups[partition.topic].values()
        acked = min((g.acked[partition.number] for g in groups), default=0)
        if acked - partition.first > 2 * self._retention:
            partition.drop(acked - self._retention)
            while self._known:  # in order of expiry, since all are kept for the same time
                oldest = next(iter(self._known))
                if self._known[oldest][0] > time.monotonic():
                    break
                del self._known[oldest]
