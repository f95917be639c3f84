"""The ends of partitions for readers of committed records, asked only if they may have changed.

A log that can be read to its end has no open transaction, and only an append can begin one. So if
its end and its leader are the same as then, it can still be read to its end. A process looks each
second at all partitions, and mostly nothing was appended to any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from transport.kafka.loss.identity import Leader, TopicDescription
from transport.kafka.reader import KafkaReader

__all__ = ["ReadableEnds"]


class _Seen(NamedTuple):
    end: int
    topic_id: str
    leader: Leader


class ReadableEnds:
    """Remembers the end and the leader of each partition that could be read to its end."""

    def __init__(self, reader: KafkaReader) -> None:
        self._reader = reader
        self._whole: dict[TopicPartition, _Seen] = {}

    async def look(
        self, topic: TopicDescription, ends: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, int]:
        """Return the end of each partition for readers of committed records.

        ``topic`` was described just before its ``ends`` were asked for.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        known = {
            at: _Seen(end, topic.id, leader)
            for at, end in ends.items()
            if (leader := topic.leaders.get(at.partition)) is not None
        }
        unsure = [at for at in ends if at not in known or self._whole.get(at) != known[at]]
        if not unsure:
            return ends
        readable = {**ends, **await self._reader.readable_ends(unsure)}
        self._whole = {at: seen for at, seen in known.items() if readable[at] >= seen.end}
        return readable
